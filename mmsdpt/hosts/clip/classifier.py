"""CLIP as a tunable classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.multimodal.clip.clip import LayerNorm
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmsdpt.hosts.base import TunableMixin
from mmsdpt.hosts.clip.seams import (
    LogitsSeam,
    ProjectionSeam,
    TeacherSeam,
    TextInputSeam,
    TokenSeam,
)
from mmsdpt.hosts.images import Images, pixels_of
from mmsdpt.hosts.seams import (
    BlockSeam,
    BranchSeam,
    FeatureSeam,
    ForwardState,
    LossSeam,
    RowSeam,
    SeamMap,
    acting_tuners,
)
from mmsdpt.hosts.stages import Stage
from mmsdpt.registry import MODELS
from mmsdpt.utils.errors import InputError
from mmsdpt.utils.templates import DEFAULT_TEMPLATE

from .class_texts import TEXT_PARTS, ClassTextsMixin
from .image_tower import ImagePartSeams, vit_features
from .quick_gelu import QuickGELU, set_quick_gelu
from .text_tower import TextPartSeams
from .tokenizer import CLIPTokenizer

_NO_VIT = "image prompts need a VisionTransformer with out_type='cls_token' as vision_backbone"
_OF_VIT = ("image_embeddings", "image_blocks", "image_projections", "image_block_branches")
_GROUPS = dict(
    visual="image",
    token_embedding="text",
    positional_embedding="text",
    transformer="text",
    ln_final="text",
)


@MODELS.register_module()
class CLIP(TunableMixin, ClassTextsMixin, BaseModel):
    r"""CLIP (Radford et al., ICML 2021) with slots for tuners, as a classifier of named classes.

    Parameter names and arguments are those of MMPreTrain's ``CLIPZeroShot``. MMPreTrain's class can
    only predict; this class can also be trained:

        logits (B, C) = exp(logit_scale) cos(image feature (B, e), text feature of class c (C, e))

    Args:
        vision_backbone: Config of the image tower. Only a ``VisionTransformer`` has seams for image
            prompts. CLIP's layer norms have eps 1e-5; MMPreTrain's default is 1e-6.
        projection: Config of ``visual_proj``.
        text_backbone: Config of the text tower, a ``CLIPTransformer``.
        tokenizer: ``dict(folder=..., ...)``: arguments of :class:`CLIPTokenizer`.
        vocab_size: Rows of the token embedding.
        transformer_width: d of the text tower.
        proj_dim: e.
        context_length: Maximum number of tokens of a text.
        classes: Names of the classes; see :meth:`set_classes`.
        template: See :meth:`set_classes`.
        token_chunk: Number of text tokens that are encoded at a time, without padding and without
            the tokens that all texts begin with. If the texts have more, they are encoded again in
            the backward pass of training, to keep the activations of only one chunk. ImageNet's
            1,000 names have 4,171.
        predict_features: Predictions also have ``image_feature`` (e,) and ``text_features`` (C, e),
            normalised, for metrics such as :class:`mmsdpt.AlignmentMetric`.
        tuner, tuners, trainable: See :class:`mmsdpt.hosts.base.TunableMixin`.
        data_preprocessor: As in MMEngine; by default MMPreTrain's ``MultiModalDataPreprocessor``.
        init_cfg: As in MMEngine.
    """

    def __init__(
        self,
        vision_backbone: dict,
        projection: dict,
        text_backbone: dict,
        tokenizer: dict,
        vocab_size: int,
        transformer_width: int,
        proj_dim: int,
        context_length: int = 77,
        *,
        classes: Sequence[str] | None = None,
        template: str | Sequence[str] = DEFAULT_TEMPLATE,
        token_chunk: int = 6_000,
        predict_features: bool = False,
        tuner: Mapping | None = None,
        tuners: Mapping[str, Mapping] | None = None,
        trainable: Sequence[str] | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor={"type": "MultiModalDataPreprocessor", **(data_preprocessor or {})},
            init_cfg=init_cfg,
        )
        self.context_length, self.token_chunk = context_length, token_chunk
        self.predict_features = predict_features
        self.visual = MODELS.build(vision_backbone)
        self.visual_proj = MODELS.build(projection)
        # Its blocks run in text_tower.py, which needs no mask of the full context.
        self.transformer = MODELS.build({**text_backbone, "attn_mask": None})
        set_quick_gelu(self, QuickGELU)
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, proj_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self._init_text_tower()
        self.tokenizer = CLIPTokenizer(**tokenizer, context_length=context_length)
        if self.tokenizer.vocab_size != vocab_size:
            raise InputError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, but vocab_size is"
                f" {vocab_size}: name the vocabulary that belongs to the weights with"
                " model.tokenizer.folder"
            )
        self._start_texts(classes or (), template)
        self._make_seams()
        self._attach_tuners(tuner, tuners, trainable)

    @torch.no_grad()
    def _init_text_tower(self) -> None:
        """Initial values as in OpenAI's CLIP."""
        width, layers = self.transformer.width, self.transformer.layers
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=(2 * width * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=(2 * width * layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    # ------------------------------------------------------------------ seams

    def _make_seams(self) -> None:
        width, proj_dim = self.text_projection.shape
        blocks = self.transformer.resblocks
        self._text_inputs = TextInputSeam(
            0,
            dict(width=width, context=self.context_length),
            tokenize=self.tokenize,
            embed=self._embed,
            count=self._count_tokens,
        )
        self._text_blocks: list[TextPartSeams] = [
            (
                TokenSeam(
                    i,
                    dict(width=width, heads=block.attn.num_heads, depth=len(blocks)),
                    kind="text_block_inputs",
                ),
                ProjectionSeam(i, dict(width=width), kind="text_projections"),
                BranchSeam(i, dict(width=width, stage=0), kind="text_block_branches"),
            )
            for i, block in enumerate(blocks)
        ]
        self._image_embeddings: RowSeam | None = None
        self._image_blocks: list[BlockSeam] = []
        self._image_parts: list[ImagePartSeams] = []
        if isinstance(self.visual, VisionTransformer) and self.visual.out_type == "cls_token":
            image_width = self.visual.embed_dims
            self._image_embeddings = RowSeam(0, dict(width=image_width), kind="image_embeddings")
            self._image_blocks = [
                BlockSeam(
                    i,
                    dict(
                        width=image_width,
                        heads=block.attn.num_heads,
                        stage=0,
                        depth=len(self.visual.layers),
                        position=i,
                    ),
                    kind="image_blocks",
                )
                for i, block in enumerate(self.visual.layers)
            ]
            self._image_parts = [
                (
                    ProjectionSeam(i, dict(width=image_width), kind="image_projections"),
                    BranchSeam(i, dict(width=image_width, stage=0), kind="image_block_branches"),
                )
                for i in range(len(self.visual.layers))
            ]
        self._pooled_image = FeatureSeam(0, dict(width=proj_dim), kind="pooled_image")
        self._pooled_text = FeatureSeam(0, dict(width=proj_dim), kind="pooled_text")
        self._logits = LogitsSeam(0, dict(width=proj_dim), kind="logits")
        self._losses = LossSeam(0, {})
        self._teacher = TeacherSeam(
            proj_dim, self.encode_untuned_image, self.encode_untuned_classes, self.compare
        )

    def seams(self) -> SeamMap:
        """Seams by kind, see :mod:`mmsdpt.hosts.clip.seams`."""
        parts = [*zip(*self._text_blocks, strict=True)]
        image_parts = [*zip(*self._image_parts, strict=True)] or [(), ()]
        return SeamMap(
            type(self).__name__,
            {
                "text_inputs": [self._text_inputs],
                "text_block_inputs": parts[0],
                "text_projections": parts[1],
                "text_block_branches": parts[2],
                "image_projections": image_parts[0],
                "image_block_branches": image_parts[1],
                "image_embeddings": [self._image_embeddings] if self._image_embeddings else [],
                "image_blocks": self._image_blocks,
                "pooled_image": [self._pooled_image],
                "pooled_text": [self._pooled_text],
                "logits": [self._logits],
                "losses": [self._losses],
                "teacher": [self._teacher],
                "parameters": self._parameter_seams,
            },
            hints=dict.fromkeys(_OF_VIT, _NO_VIT),
        )

    def stages(self) -> Sequence[Stage]:
        """``image``: up to the pooled features; ``text``: features of the classes' texts."""
        embeddings = [self._image_embeddings] if self._image_embeddings else []
        image = [*embeddings, *self._image_blocks, *(x for part in self._image_parts for x in part)]
        return (
            Stage("image", ("visual", "visual_proj"), image),
            Stage("text", TEXT_PARTS, self._text_seams()),
        )

    def parameter_group(self, name: str) -> str:
        return _GROUPS.get(name.partition(".")[0], "outputs")

    # ------------------------------------------------------------------ features

    def encode_image(self, images: Images, state: ForwardState | None = None) -> Tensor:
        """Normalised image features (B, e) of normalised images (B, 3, H, W), with the tuners that
        are switched on.
        """
        state = state or ForwardState(images=images)
        with self.tuned():
            x = self._image_features(images, state)
            state.pooled_image = self._pooled_image.change(x)
            state.image_features = F.normalize(state.pooled_image, dim=-1)
            return state.image_features

    def encode_untuned_image(self, images: Images) -> Tensor:
        """Image features (B, e) of the untuned host for images (B, 3, H, W), not normalised and
        without gradients.
        """
        with self.untuned():
            return self._image_features(images, ForwardState(images=images))

    def _image_features(self, images: Images, state: ForwardState) -> Tensor:
        """Features (B, e) of images (B, 3, H, W), before ``pooled_image``; fills
        ``state.image_rows`` with the rows whose output tuners need.
        """

        def compute(pixels: Tensor) -> Tensor:
            with self.encoder_precision("image"):
                x = self._run_image(pixels, state).to(self.logit_scale.dtype)
            with torch.autocast(x.device.type, enabled=False):  # see _scaled_products
                (x,) = self.visual_proj(x)
            return x

        if self.features is None:
            return compute(pixels_of(images))
        stage = self._stages["image"]
        tuners = acting_tuners(stage.seams)

        def with_rows(pixels: Tensor) -> tuple[Tensor, ...]:
            x = compute(pixels)
            none = x.new_empty(len(x), 0)  # for tuners without rows
            return (x, *(state.image_rows.get(tuner, none) for tuner in tuners))

        x, *rows = self.features.images(stage, images, with_rows)
        state.image_rows = dict(zip(tuners, rows, strict=True))
        return x

    def _run_image(self, images: Tensor, state: ForwardState) -> Tensor:
        """Output (B, d) of the image tower for images (B, 3, H, W)."""
        if self._image_embeddings is not None:
            return vit_features(
                self.visual,
                images,
                self._image_embeddings,
                self._image_blocks,
                self._image_parts,
                state,
            )
        x = self.visual(images)[-1]
        return x.mean(dim=(2, 3)) if x.dim() == 4 else x

    # ------------------------------------------------------------------ classification

    def forward(
        self,
        images: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = "tensor",
    ) -> Tensor | dict[str, Tensor] | list[DataSample]:
        """As in MMEngine.

        Args:
            images: (B, 3, H, W), normalised.
            data_samples: B samples; ``loss`` needs their ``gt_label``.
            mode: ``tensor``: logits (B, C); ``loss``: dict with the cross-entropy; ``predict``:
                samples with ``pred_score`` and ``pred_label``.

        Raises:
            InputError: if the model has no classes.
        """
        if mode == "tensor":
            return self.logits(images, data_samples)
        if mode == "loss":
            return self.loss(images, data_samples or [])
        if mode == "predict":
            return self.predict(images, data_samples)
        raise RuntimeError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")

    def logits(self, images: Tensor, data_samples: list[DataSample] | None = None) -> Tensor:
        """Logits (B, C)."""
        return cast(Tensor, self._classify(images, data_samples).logits)

    def _classify(self, images: Tensor, data_samples: list[DataSample] | None) -> ForwardState:
        """The state of a forward pass, with features and logits."""
        if not self.class_names:
            raise InputError(
                "the model has no classes: call set_classes(names), set model.classes in the"
                " config, or use mmsdpt.SetClassesHook, which takes them from the dataset"
            )
        known = self._known_images(images, data_samples)
        state = ForwardState(images=known, samples=data_samples or (), class_names=self.class_names)
        with self.tuned():
            self.encode_image(known, state)
            return self._compare(state)

    def _compare(self, state: ForwardState) -> ForwardState:
        """As :meth:`_classify`, from the image features in ``state``."""
        with self.tuned():
            image, text = cast(Tensor, state.image_features), self.encode_classes(state)
            logits = self._scaled_products(image, text)
            state.text_features = text
            state.logits = self._logits.change(logits, state)
            return state

    def loss(self, images: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Cross-entropy over the classes, in at least float32, and the losses of tuners."""
        with self.tuned():
            state = self._classify(images, data_samples)
            logits = cast(Tensor, state.logits)
            labels = [sample.gt_label for sample in data_samples]
            state.labels = torch.cat(labels).to(logits.device)
            loss = F.cross_entropy(logits.to(self.logit_scale.dtype), state.labels)
            return {"loss": loss, **self._losses.losses(state)}

    @torch.no_grad()
    def predict(
        self, images: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Samples with ``pred_score`` (C,), the softmax of the logits, ``pred_label``, and features
        if ``predict_features`` is set.
        """
        state = self._classify(images, data_samples)
        return self._predictions(state, data_samples or [DataSample() for _ in images])

    @torch.no_grad()
    def predict_from_features(
        self, pooled_image: Tensor, data_samples: list[DataSample]
    ) -> list[DataSample]:
        """As :meth:`predict`, from image features that are already computed.

        Args:
            pooled_image: (B, e), ``state.pooled_image`` of ``encode_image(images, state)``.
            data_samples: B samples.
        """
        state = ForwardState(
            samples=data_samples,
            class_names=self.class_names,
            pooled_image=pooled_image,
            image_features=F.normalize(pooled_image, dim=-1),
        )
        return self._predictions(self._compare(state), data_samples)

    def compare(self, image: Tensor, text: Tensor) -> Tensor:
        """Logits (B, C) of features (B, e) and (C, e) or (B, C, e), normalised or not."""
        return self._scaled_products(F.normalize(image, dim=-1), F.normalize(text, dim=-1))

    def _scaled_products(self, image: Tensor, text: Tensor) -> Tensor:
        """Cosines times exp(logit_scale), 100 in CLIP, in the precision of the parameters: with the
        8 bits of bfloat16 a logit would be wrong by up to 0.4.
        """
        scale = self.logit_scale.exp()
        image, text = image.to(scale.dtype), text.to(scale.dtype)
        with torch.autocast(scale.device.type, enabled=False):
            if text.dim() == 3:
                return scale * (text @ image.unsqueeze(-1)).squeeze(-1)
            return scale * image @ text.t()

    def _predictions(self, state: ForwardState, samples: list[DataSample]) -> list[DataSample]:
        logits, image, text = (
            cast(Tensor, x) for x in (state.logits, state.image_features, state.text_features)
        )
        scores = logits.softmax(dim=-1)
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score).set_pred_label(score.argmax(dim=0, keepdim=True))
        if self.predict_features:
            for i, sample in enumerate(samples):
                sample.set_field(image[i], "image_feature")
                # If all images have the same texts, they share one tensor.
                sample.set_field(text[i] if text.dim() == 3 else text, "text_features")
        return samples
