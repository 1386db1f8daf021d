# SGD as in CoOp and what followed it: a first epoch at 1e-5, then a cosine, stepped once an epoch:
#   lr (1 + cos(pi (e - 1) / E)) / 2    in epoch e = 1 ... E - 1.
# A method with another rate or number of epochs sets both and repeats what is made from them.
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
    dict(type="CosineAnnealingLR", T_max=max_epochs, begin=1),
]
