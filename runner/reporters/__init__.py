"""Plans, events and records as people and programs read them: functions of a value, nothing more."""
