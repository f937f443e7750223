//! Names of a vision transformer's weights in other libraries.

use lejepa_core::{Array, Arrays};

/// Where other libraries' names begin that stand for a whole model.
const WRAPPERS: [&str; 8] =
    ["module.", "_orig_mod.", "model.", "backbone.", "teacher.", "student.", "vit.", "dinov2."];

/// Names of torchvision and of Hugging Face beside those of timm and DINOv2, in parts of a name.
const SYNONYMS: [(&str, &str); 43] = [
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
    ("embeddings.patch_embeddings.", "patch_embed.proj."),
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
    (".gamma_1", ".ls1.gamma"),
    (".gamma_2", ".ls2.gamma"),
    // SwiGLU of Hugging Face, of DINOv3, and of DINOv2, where gate and value are one matrix.
    (".mlp.gate_proj.", ".mlp.fc1_g."),
    (".mlp.up_proj.", ".mlp.fc1_x."),
    (".mlp.down_proj.", ".mlp.fc2."),
    (".mlp.w12.", ".mlp.fc1."),
    (".mlp.weights_in.", ".mlp.fc1."),
    (".mlp.weights_out.", ".mlp.fc2."),
    (".mlp.w1.", ".mlp.fc1_g."),
    (".mlp.w2.", ".mlp.fc1_x."),
    (".mlp.w3.", ".mlp.fc2."),
    (".attn.q_bias", ".attention.q_proj.bias"),
    (".attn.v_bias", ".attention.v_proj.bias"),
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
        "register_tokens" | "storage_tokens" => "reg_token".into(),
        "layernorm.weight" => "norm.weight".into(),
        "layernorm.bias" => "norm.bias".into(),
        _ if name.starts_with("layers.") => name.replacen("layers.", "blocks.", 1),
        _ if name.starts_with("layer.") => name.replacen("layer.", "blocks.", 1),
        _ if name.starts_with("blocks.") => name.replace(".output.dense.", ".mlp.fc2."),
        _ => name,
    }
}

/// Weights by timm's names, from whichever library they are.
pub(crate) fn in_timm_names(arrays: Arrays) -> Arrays {
    let mut out: Arrays =
        arrays.into_iter().map(|(name, array)| (timm_name(&name), array)).collect();
    // Constants of DINOv3.
    out.retain(|name, _| !name.ends_with(".bias_mask") && !name.starts_with("rope_embed."));
    for block in 0.. {
        if !out.contains_key(&format!("blocks.{block}.norm1.weight")) {
            break;
        }
        // Queries, keys and values may be apart, and keys without a bias.
        for part in ["weight", "bias"] {
            let names =
                ["q", "k", "v"].map(|kind| format!("blocks.{block}.attention.{kind}_proj.{part}"));
            if part == "bias"
                && let Some(query) = out.get(&names[0])
                && !out.contains_key(&names[1])
            {
                let none = Array::new(query.shape(), vec![0.0; query.values().len()]);
                out.extend(none.map(|none| (names[1].clone(), none)));
            }
            if let Some(joined) = join(&mut out, &names) {
                out.insert(format!("blocks.{block}.attn.qkv.{part}"), joined);
            }
        }
        ungate(&mut out, block);
    }
    out
}

/// Takes arrays out and puts them one below the other; `None`, and nothing is taken, where one is missing or of another
/// width.
pub(crate) fn join(arrays: &mut Arrays, names: &[String]) -> Option<Array> {
    let all: Vec<&Array> = names.iter().map(|name| arrays.get(name)).collect::<Option<_>>()?;
    let mut shape = all[0].shape().to_vec();
    shape[0] = all.iter().map(|array| array.shape().first().copied().unwrap_or(0)).sum();
    let values = all.iter().flat_map(|array| array.values()).copied().collect();
    let joined = Array::new(shape, values)?;
    names.iter().for_each(|name| drop(arrays.remove(name)));
    Some(joined)
}

/// Takes a matrix of gate and value apart. Without a gate, the layer before the last is the first.
fn ungate(arrays: &mut Arrays, block: usize) {
    let at = |layer: &str, part: &str| format!("blocks.{block}.mlp.{layer}.{part}");
    if !arrays.contains_key(&at("fc1_g", "weight")) {
        for part in ["weight", "bias"] {
            let alone = arrays.remove(&at("fc1_x", part));
            arrays.extend(alone.map(|array| (at("fc1", part), array)));
        }
    }
    let hidden = arrays.get(&at("fc2", "weight")).and_then(|down| down.shape().get(1).copied());
    let both = arrays.get(&at("fc1", "weight")).map(|first| first.shape()[0]);
    if hidden.zip(both).is_none_or(|(hidden, both)| both != 2 * hidden) {
        return;
    }
    for part in ["weight", "bias"] {
        let Some(both) = arrays.remove(&at("fc1", part)) else { continue };
        let mut shape = both.shape().to_vec();
        shape[0] /= 2;
        let (gate, value) = both.values().split_at(both.values().len() / 2);
        for (layer, values) in [("fc1_g", gate), ("fc1_x", value)] {
            arrays.extend(Array::new(shape.clone(), values.to_vec()).map(|a| (at(layer, part), a)));
        }
    }
}
