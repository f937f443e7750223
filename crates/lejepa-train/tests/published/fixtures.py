"""Outputs of other libraries' encoders with weights that a formula gives: `python fixtures.py > fixtures.json`.

Needs torch, timm, torchvision and transformers. The formula is repeated in `src/foreign_tests.rs`.
"""

import json
import math

import timm
import torch
import torchvision
import transformers


def values(name, shape):
    count = math.prod(shape)
    mixed = (torch.arange(count) + 1_000_003 * sum(name.encode())) & 0xFFFFFFFF
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    mixed = mixed ^ (mixed >> 16)
    # -1 to 1
    wave = mixed.double() / 2**31 - 1
    if name.endswith("running_var"):
        wave = 1 + 0.5 * wave
    elif len(shape) > 1 and "token" not in name and "pos" not in name:
        wave = wave * math.sqrt(3 / math.prod(shape[1:]))
    elif name.endswith(("weight", "gamma", "lambda1")):
        wave = 1 + 0.2 * wave
    else:
        wave = 0.1 * wave
    return wave.reshape(shape).float()


def case(name, model, side, channels=3, out=lambda y: y):
    state = {
        key: values(key, list(value.shape))
        for key, value in model.state_dict().items()
        if value.is_floating_point()
    }
    model.load_state_dict(state, strict=False)
    model.eval()
    with torch.no_grad():
        y = out(model(values("input", [2, channels, side, side]) * math.sqrt(channels * side * side / 3)))
    return {
        "name": name,
        "side": side,
        "channels": channels,
        "shapes": {key: list(value.shape) for key, value in state.items()},
        "output": [float(f"{v:.7g}") for v in y.flatten().tolist()],
    }


def vit(**more):
    return timm.models.VisionTransformer(
        img_size=24, patch_size=4, embed_dim=64, depth=2, num_heads=1, num_classes=0, **more
    )


def convnext(**more):
    return timm.models.ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 32, 64), num_classes=0, **more)


class OfTorchvision(torch.nn.Module):
    """torchvision's ConvNeXt with the identity in place of the last layer of its classifier."""

    def __init__(self):
        super().__init__()
        setting = torchvision.models.convnext.CNBlockConfig
        widths = [(8, 16, 1), (16, 32, 1), (32, 64, 2), (64, None, 1)]
        net = torchvision.models.ConvNeXt([setting(*width) for width in widths])
        net.classifier[2] = torch.nn.Identity()
        self.features, self.avgpool, self.classifier = net.features, net.avgpool, net.classifier

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)))


class Features(torch.nn.Module):
    """torchvision's transformer with the identity in place of its classifier."""

    def __init__(self):
        super().__init__()
        self.vit = torchvision.models.VisionTransformer(24, 4, 2, 1, 64, 256)
        self.vit.heads = torch.nn.Identity()

    def forward(self, x):
        return self.vit(x)


def hugging_face(kind, config, **more):
    config = config(
        image_size=24, patch_size=4, hidden_size=64, num_hidden_layers=2, num_attention_heads=1,
        **{"hidden_act": "gelu", **more},
    )
    return kind(config)


def dinov3(**more):
    return hugging_face(
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig,
        **{"intermediate_size": 128, "num_register_tokens": 4, **more},
    )


def eva(name):
    return timm.create_model(
        name, img_size=24, patch_size=4, embed_dim=64, depth=2, num_heads=1, mlp_ratio=2.0, num_classes=0,
        global_pool="token",
    )


cases = [
    case("timm cls", vit(), 24),
    case("timm mean", vit(class_token=False, global_pool="avg", fc_norm=False), 24),
    case("timm registers, layer scale", vit(reg_tokens=3, init_values=0.1, no_embed_class=True), 24),
    case("timm registers with positions", vit(reg_tokens=2), 24, channels=3),
    case("torchvision", Features(), 24),
    case(
        "hugging face vit",
        hugging_face(transformers.ViTModel, transformers.ViTConfig, intermediate_size=256,
                     layer_norm_eps=1e-6),
        24, out=lambda y: y.last_hidden_state[:, 0],
    ),
    case(
        "hugging face dinov2",
        hugging_face(transformers.Dinov2Model, transformers.Dinov2Config),
        24, out=lambda y: y.last_hidden_state[:, 0],
    ),
    case(
        "hugging face dinov2, swiglu",
        hugging_face(transformers.Dinov2Model, transformers.Dinov2Config, use_swiglu_ffn=True),
        24, out=lambda y: y.last_hidden_state[:, 0],
    ),
    case("hugging face dinov3", dinov3(), 24, out=lambda y: y.last_hidden_state[:, 0]),
    case(
        "hugging face dinov3, swiglu",
        dinov3(use_gated_mlp=True, hidden_act="silu", intermediate_size=96, num_register_tokens=2),
        24, out=lambda y: y.last_hidden_state[:, 0],
    ),
    case(
        "timm dinov2 giant, layer scale",
        vit(mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU, init_values=0.1, mlp_ratio=3.0),
        24,
    ),
    case("timm dinov3, layer scale", eva("vit_small_patch16_dinov3_qkvb"), 24),
    case("timm dinov3 plus, layer scale", eva("vit_small_plus_patch16_dinov3_qkvb"), 24),
    case("timm resnet18", timm.create_model("resnet18", num_classes=0), 64),
    case("timm convnext", convnext(), 64),
    case("timm convnext, convolutions", convnext(conv_mlp=True), 64),
    case("timm convnextv2", convnext(use_grn=True, ls_init_value=None), 64),
    case("torchvision convnext", OfTorchvision(), 64),
    case("timm resnet50", timm.create_model("resnet50", num_classes=0), 64),
]
grid = torch.tensor([0.0, 1.0, 4.0, 9.0, 25.0])
resized = {
    str(size): torch.nn.functional.interpolate(
        grid.reshape(1, 1, 1, 5), size=(1, size), mode="bicubic", antialias=True
    ).flatten().tolist()
    for size in (2, 3, 5, 8)
}
print(json.dumps({"cases": cases, "bicubic": resized}))
