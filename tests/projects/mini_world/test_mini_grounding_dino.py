"""The weights of mini Grounding DINO that come with the package."""

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torchvision.ops import box_iou

from mmsdpt.hosts.base import build_on_base
from mmsdpt.utils.downloads import resolve_checkpoint
from projects.mini_world.tasks import TaskPainter


def test_it_finds_combinations_that_it_never_saw(repository):
    config = Config.fromfile(str(repository / "configs/mini/zero_shot_mini_grounding_dino.py"))
    model = build_on_base(config.model, resolve_checkpoint(config.load_from)).eval()
    painter = TaskPainter("held_out")
    found = wanted = 0
    for index in range(6):
        scene, labels = painter.draw("test", index)
        image = torch.from_numpy(scene.image[..., ::-1].copy()).permute(2, 0, 1)
        size = tuple(image.shape[1:])
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=size,
                ori_shape=size,
                scale_factor=(1.0, 1.0),
                text=painter.task.names,
                custom_entities=True,
            )
        )
        with torch.no_grad():
            (result,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
        boxes = result.pred_instances[result.pred_instances.scores > 0.3]
        for box, label in zip(torch.as_tensor(scene.boxes), labels, strict=True):
            same = boxes.bboxes[boxes.labels == label]
            found += bool(len(same)) and float(box_iou(box[None].float(), same).max()) > 0.5
            wanted += 1
    assert wanted > 15 and found > 0.65 * wanted, (found, wanted)
