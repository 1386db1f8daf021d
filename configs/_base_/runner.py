# What every config of a tuner runs with: the modules of the package, its runner, a fixed seed.
custom_imports = dict(
    imports=[
        "mmsdpt.hosts",
        "mmsdpt.tuners",
        "mmsdpt.datasets",
        "mmsdpt.engine",
        "mmsdpt.evaluation",
    ],
    allow_failed_imports=False,
)
runner_type = "mmsdpt.TunerRunner"
randomness = dict(seed=0)
