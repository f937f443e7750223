//! Names of a vision transformer's weights in other libraries.

use lejepa_core::{Array, Arrays, Result};

use crate::published_vit::refused;

/// Where other libraries' names begin that stand for a whole model.
const WRAPPERS: [&str; 8] =
    ["module.", "_orig_mod.", "model.", "backbone.", "teacher.", "student.", "vit.", "dinov2."];

/// Names of torchvision and of Hugging Face beside those of timm and DINOv2, in parts of a name.
const SYNONYMS: [(&str, &str); 29] = [
    ("class_token", "cls_token"),
    ("conv_proj.", "patch_embed.proj."),
    ("encoder.pos_embedding", "pos_embed"),
    ("encoder.layers.encoder_layer_", "blocks."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".self_attention.in_proj_", ".attn.qkv."),
    (".self_attention.out_proj.", ".attn.proj."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.3.", ".mlp.fc2."),
    (".mlp.linear_1.", ".mlp.fc1."),
    (".mlp.linear_2.", ".mlp.fc2."),
    ("encoder.ln.", "norm."),
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".attention.attention.query.", ".attention.q_proj."),
    (".attention.attention.key.", ".attention.k_proj."),
    (".attention.attention.value.", ".attention.v_proj."),
    (".attention.output.dense.", ".attn.proj."),
    (".attention.o_proj.", ".attn.proj."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
];

/// A name as timm has it; queries, keys and values of Hugging Face stay apart.
pub(crate) fn timm_name(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|start| name.strip_prefix(start)) {
        name = rest;
    }
    let mut name = name.to_string();
    for (theirs, ours) in SYNONYMS {
        name = name.replace(theirs, ours);
    }
    match name.as_str() {
        "register_tokens" => "reg_token".into(),
        "layernorm.weight" => "norm.weight".into(),
        "layernorm.bias" => "norm.bias".into(),
        _ if name.starts_with("layers.") => name.replacen("layers.", "blocks.", 1),
        _ if name.starts_with("blocks.") => name.replace(".output.dense.", ".mlp.fc2."),
        _ => name,
    }
}

/// Weights by timm's names, from whichever library they are.
pub(crate) fn in_timm_names(arrays: Arrays) -> Result<Arrays> {
    let mut out: Arrays =
        arrays.into_iter().map(|(name, array)| (timm_name(&name), array)).collect();
    if out.keys().any(|name| name.contains(".mlp.w12.") || name.contains(".mlp.weights_in.")) {
        return Err(refused("transformers with SwiGLU are not supported"));
    }
    // Hugging Face keeps queries, keys and values apart.
    for part in ["weight", "bias"] {
        for block in 0.. {
            let names =
                ["q", "k", "v"].map(|kind| format!("blocks.{block}.attention.{kind}_proj.{part}"));
            let Some(all) = names.iter().map(|name| out.get(name)).collect::<Option<Vec<_>>>()
            else {
                break;
            };
            let values: Vec<f32> = all.iter().flat_map(|a| a.values()).copied().collect();
            let mut shape = all[0].shape().to_vec();
            shape[0] *= 3;
            let joined = Array::new(shape, values);
            names.iter().for_each(|name| drop(out.remove(name)));
            let joined =
                joined.ok_or_else(|| refused("queries, keys and values differ in shape"))?;
            out.insert(format!("blocks.{block}.attn.qkv.{part}"), joined);
        }
    }
    Ok(out)
}
