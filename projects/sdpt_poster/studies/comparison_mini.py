# Every method on mini GLIP and one small drawn task.
_base_ = "parts/tasks.py"

study = dict(
    name="comparison_mini",
    title="All methods on one small task",
    protocol="comparison",
    methods=list(_base_.methods),
    data=["thermal"],
    published="projects.sdpt_poster.published",
)
