# main_mini with each method at its best rate of rates_mini, on the validation images of the task.
_base_ = "main_mini.py"

# Times the rate of the method's config. Methods that are not named have it.
chosen = dict(
    new_names=dict(
        full_fine_tuning=3,
        bitfit=10,
        lora=0.1,
        adaptformer=3,
        vpt=10,
        adapter=0.3,
        glip_prompt=3,
        coop=0.1,
        dpt=0.3,
        apollo=3,
        pmf=10,
        upt=0.3,
        maple=3,
    ),
    new_shapes=dict(
        linear_probing=3,
        full_fine_tuning=3,
        bitfit=10,
        lora=0.3,
        adaptformer=3,
        vpt=10,
        glip_prompt=0.3,
        dpt=0.3,
        apollo=3,
        pmf=10,
        upt=0.1,
        maple=3,
    ),
    infrared=dict(
        linear_probing=3,
        full_fine_tuning=3,
        bitfit=3,
        bitfit_xmha=0.3,
        lora=0.3,
        adaptformer=10,
        vpt=10,
        glip_prompt=0.3,
        coop=3,
        dpt=0.3,
        apollo=3,
        upt=0.1,
        maple=3,
    ),
    new_adjectives=dict(
        full_fine_tuning=3,
        bitfit=10,
        adaptformer=3,
        vpt=10,
        adapter=0.3,
        glip_prompt=0.3,
        coop=10,
        dpt=0.3,
        pmf=10,
        upt=0.1,
        maple=3,
        sdpt_k120=0.3,
    ),
    aerial=dict(
        full_fine_tuning=3,
        bitfit=10,
        adaptformer=3,
        vpt=10,
        glip_prompt=0.3,
        coop=0.3,
        dpt=0.3,
        apollo=3,
        pmf=10,
        maple=10,
    ),
    clutter=dict(
        linear_probing=3,
        full_fine_tuning=0.3,
        bitfit_xmha=0.1,
        lora=0.3,
        adaptformer=0.3,
        vpt=3,
        glip_prompt=0.1,
        coop=0.3,
        dpt=0.3,
        apollo=3,
        pmf=0.1,
        maple=3,
    ),
)
study = dict(
    name="chosen_rates_mini",
    title="All methods on mini GLIP, each at its best rate",
    data=[
        dict(
            name=task,
            settings={
                method: {"optim_wrapper.optimizer.lr": f"*{times}"}
                for method, times in times_of.items()
            },
        )
        for task, times_of in chosen.items()
    ],
    published=None,
)
