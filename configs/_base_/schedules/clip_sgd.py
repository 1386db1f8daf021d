# SGD as in CoOp and the methods after it: 1e-5 in the first epoch, then a cosine. In epoch
# e = 1 ... E - 1 of E the rate is
#   lr (1 + cos(pi (e - 1) / E)) / 2.
# A method with another rate sets it and param_scheduler[0].factor.
lr, max_epochs = 0.0025, 10
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="mmsdpt.TrainableOptimWrapperConstructor",
    optimizer=dict(type="SGD", lr=lr, momentum=0.9, weight_decay=5e-4),
)
# The last epoch's model is the result: nothing is chosen on the validation images.
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    # MMEngine gives the rate back in epoch end - 1; with end=1 it never would.
    dict(type="ConstantLR", factor=1e-5 / lr, begin=0, end=2),
    # "max_epochs" is the run's number, train_cfg.max_epochs, wherever it is set.
    dict(type="CosineAnnealingLR", T_max="max_epochs", begin=1),
]
