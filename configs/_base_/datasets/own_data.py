# Your own data as the converters write it (docs/new_dataset.md). A config of COCO has the same
# keys, and MMEngine merges no key of two bases: one that inherits both takes these by name,
# ``_base_.own_train``, and brings the pipeline and the filter.
own_data_root = "data/raccoon/"
own_metainfo = dict(classes=("raccoon",))
own_train = dict(
    _delete_=True,
    type="mmsdpt.FewShotDataset",
    shots=0,
    copies=1,
    seed=3,
    dataset=dict(
        type="CocoDataset",
        data_root=own_data_root,
        metainfo=own_metainfo,
        ann_file="annotations/train.json",
        data_prefix=dict(img="images/train/"),
        return_classes=True,
    ),
)
own_val = dict(
    data_root=own_data_root,
    metainfo=own_metainfo,
    ann_file="annotations/val.json",
    data_prefix=dict(img="images/val/"),
)
own_test = dict(
    data_root=own_data_root,
    metainfo=own_metainfo,
    ann_file="annotations/test.json",
    data_prefix=dict(img="images/test/"),
)
