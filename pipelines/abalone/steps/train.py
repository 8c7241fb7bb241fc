"""Train the model: gradient-boosted trees that predict the number of rings."""


def train(train, validation, num_rounds, eta, max_depth, subsample, gamma, min_child_weight, model_path):
    """Write the model to `model_path`. The tables have the label first and no header."""
    import numpy
    import xgboost

    def table(path):
        rows = numpy.loadtxt(path, delimiter=",")
        return xgboost.DMatrix(rows[:, 1:], label=rows[:, 0])

    params = {
        "objective": "reg:squarederror",
        "eta": eta,
        "max_depth": max_depth,
        "subsample": subsample,
        "gamma": gamma,
        "min_child_weight": min_child_weight,
        "seed": 7,
        "nthread": 2,
    }
    watched = [(table(train), "train"), (table(validation), "validation")]
    model = xgboost.train(params, watched[0][0], num_boost_round=num_rounds, evals=watched, verbose_eval=20)
    model.save_model(model_path)
