//! Encoders as ONNX graphs (opset 17), for other runtimes.

mod convnext;
mod convolutions;
mod front_end;
mod transformer;

pub(crate) use convnext::convnext;
pub(crate) use convolutions::{ConvLayer, Network};
pub use front_end::with_front_end;
pub(crate) use transformer::Transformer;

use lejepa_core::{Array, Arrays, Normalization, Result};
use prost::Message;

use crate::published_vit::refused;

/// The messages of `onnx.proto3` that a graph of an encoder needs, by their field numbers.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Model {
        #[prost(int64, tag = "1")]
        pub(crate) ir_version: i64,
        #[prost(string, tag = "2")]
        pub(crate) producer_name: String,
        #[prost(string, tag = "3")]
        pub(crate) producer_version: String,
        #[prost(message, optional, tag = "7")]
        pub(crate) graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub(crate) opset_import: Vec<Opset>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Opset {
        #[prost(string, tag = "1")]
        pub(crate) domain: String,
        #[prost(int64, tag = "2")]
        pub(crate) version: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub(crate) node: Vec<Node>,
        #[prost(string, tag = "2")]
        pub(crate) name: String,
        #[prost(message, repeated, tag = "5")]
        pub(crate) initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub(crate) input: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub(crate) output: Vec<ValueInfo>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Node {
        #[prost(string, repeated, tag = "1")]
        pub(crate) input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub(crate) output: Vec<String>,
        #[prost(string, tag = "4")]
        pub(crate) op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub(crate) attribute: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Attribute {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(float, tag = "2")]
        pub(crate) f: f32,
        #[prost(int64, tag = "3")]
        pub(crate) i: i64,
        #[prost(int64, repeated, tag = "8")]
        pub(crate) ints: Vec<i64>,
        /// 1: float, 2: int, 7: ints.
        #[prost(int32, tag = "20")]
        pub(crate) kind: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub(crate) dims: Vec<i64>,
        /// 1: 32-bit floats, 7: 64-bit integers.
        #[prost(int32, tag = "2")]
        pub(crate) data_type: i32,
        #[prost(string, tag = "8")]
        pub(crate) name: String,
        #[prost(bytes = "vec", tag = "9")]
        pub(crate) raw_data: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ValueInfo {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) of: Option<Type>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Type {
        #[prost(message, optional, tag = "1")]
        pub(crate) tensor: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TensorType {
        #[prost(int32, tag = "1")]
        pub(crate) elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub(crate) shape: Option<Shape>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub(crate) dim: Vec<Dim>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Dim {
        /// 0 where the length has a name.
        #[prost(int64, tag = "1")]
        pub(crate) value: i64,
        #[prost(string, tag = "2")]
        pub(crate) param: String,
    }
}

/// An attribute's value.
pub(crate) enum Attr<'a> {
    Float(f32),
    Int(i64),
    Ints(&'a [i64]),
}

/// A graph under construction: values are named by numbers.
#[derive(Default)]
pub(crate) struct Graph {
    /// What the names of its values begin with.
    prefix: &'static str,
    nodes: Vec<proto::Node>,
    constants: Vec<proto::Tensor>,
}

/// The name of a value.
pub(crate) type Name = String;

/// The name of the graph's input.
pub(crate) const INPUT: &str = "view";
const OUTPUT: &str = "embedding";

impl Graph {
    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr<'_>)],
    ) -> Name {
        let name = format!("{}v{}", self.prefix, self.nodes.len());
        self.push(op, inputs, vec![name.clone()], attributes);
        name
    }

    /// A node of several outputs.
    pub(crate) fn split(&mut self, input: &str, parts: usize, axis: i64) -> Vec<Name> {
        let names: Vec<Name> =
            (0..parts).map(|p| format!("{}v{}_{p}", self.prefix, self.nodes.len())).collect();
        self.push("Split", &[input], names.clone(), &[("axis", Attr::Int(axis))]);
        names
    }

    fn push(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: Vec<String>,
        attributes: &[(&str, Attr<'_>)],
    ) {
        let attribute = attributes.iter().map(|(name, value)| {
            let mut attribute = proto::Attribute { name: (*name).into(), ..Default::default() };
            match value {
                Attr::Float(f) => (attribute.f, attribute.kind) = (*f, 1),
                Attr::Int(i) => (attribute.i, attribute.kind) = (*i, 2),
                Attr::Ints(ints) => (attribute.ints, attribute.kind) = (ints.to_vec(), 7),
            }
            attribute
        });
        self.nodes.push(proto::Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output,
            op_type: op.into(),
            attribute: attribute.collect(),
        });
    }

    pub(crate) fn constant(&mut self, array: &Array) -> Name {
        let dims = array.shape().iter().map(|n| *n as i64).collect();
        let raw_data = array.values().iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(dims, 1, raw_data)
    }

    pub(crate) fn number(&mut self, value: f32) -> Name {
        self.store(Vec::new(), 1, value.to_le_bytes().to_vec())
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> Name {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(vec![values.len() as i64], 7, raw_data)
    }

    fn store(&mut self, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> Name {
        let name = format!("{}c{}", self.prefix, self.constants.len());
        self.constants.push(proto::Tensor { dims, data_type, name: name.clone(), raw_data });
        name
    }

    /// x·W + b along the last axis; `weight` is `[in, out]`.
    pub(crate) fn linear(&mut self, x: &str, weight: &Array, bias: &Array) -> Name {
        let (weight, bias) = (self.constant(weight), self.constant(bias));
        let product = self.node("MatMul", &[x, &weight], &[]);
        self.node("Add", &[&product, &bias], &[])
    }

    /// The input, normalised as the encoder was trained to see it.
    pub(crate) fn input(&mut self, view: &[usize], normalization: &Normalization) -> Result<Name> {
        let channels = view.first().copied().unwrap_or(1);
        let mut shape = vec![1; view.len() + 1];
        shape[1] = channels;
        let Normalization { mean, std } = normalization;
        let mut of = |values: &[f64]| -> Result<Name> {
            let value = |c: usize| values.get(c).or(values.last()).copied().unwrap_or(0.0) as f32;
            let array = Array::new(shape.clone(), (0..channels).map(value).collect());
            Ok(self.constant(&array.ok_or_else(|| refused("no channels"))?))
        };
        let (mean, std) = (of(mean)?, of(std)?);
        let centred = self.node("Sub", &[INPUT, &mean], &[]);
        Ok(self.node("Div", &[&centred, &std], &[]))
    }

    /// The frames of a clip `[batch, channels, frames, height, width]` as so many views `[batch·frames, channels, height,
    /// width]`; anything else as it is.
    pub(crate) fn frames(&mut self, x: &str, view: &[usize]) -> Name {
        let &[channels, _, height, width] = view else { return x.to_string() };
        let x = self.node("Transpose", &[x], &[("perm", Attr::Ints(&[0, 2, 1, 3, 4]))]);
        let shape = self.ints(&[-1, channels as i64, height as i64, width as i64]);
        self.node("Reshape", &[&x, &shape], &[])
    }

    /// The mean of what each of the frames gave, `[batch·frames, dim] -> [batch, dim]`.
    pub(crate) fn mean_of_frames(&mut self, x: &str, view: &[usize], dim: usize) -> Name {
        let &[_, frames, _, _] = view else { return x.to_string() };
        let shape = self.ints(&[-1, frames as i64, dim as i64]);
        let x = self.node("Reshape", &[x, &shape], &[]);
        self.node("ReduceMean", &[&x], &[("axes", Attr::Ints(&[1])), ("keepdims", Attr::Int(0))])
    }

    /// The file; `output` is the embedding, `[batch, dim]`.
    pub(crate) fn finish(mut self, output: &str, view: &[usize], dim: usize) -> Vec<u8> {
        self.push("Identity", &[output], vec![OUTPUT.into()], &[]);
        let graph = proto::Graph {
            node: self.nodes,
            name: "encoder".into(),
            initializer: self.constants,
            input: vec![value_info(INPUT, view)],
            output: vec![value_info(OUTPUT, &[dim])],
        };
        let model = proto::Model {
            ir_version: 8,
            producer_name: "lejepa".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            opset_import: vec![proto::Opset { domain: String::new(), version: 17 }],
        };
        model.encode_to_vec()
    }
}

/// A value of these lengths after the batch, which is free.
fn value_info(name: &str, lengths: &[usize]) -> proto::ValueInfo {
    let fixed = lengths.iter().map(|n| proto::Dim { value: *n as i64, param: String::new() });
    let batch = proto::Dim { value: 0, param: "batch".into() };
    let shape = proto::Shape { dim: std::iter::once(batch).chain(fixed).collect() };
    let tensor = proto::TensorType { elem_type: 1, shape: Some(shape) };
    proto::ValueInfo { name: name.into(), of: Some(proto::Type { tensor: Some(tensor) }) }
}

/// An array by its name.
pub(crate) fn get<'a>(own: &'a Arrays, name: &str) -> Result<&'a Array> {
    own.get(name).ok_or_else(|| refused(format!("the weights have no `{name}`")))
}

fn layer_norm(g: &mut Graph, own: &Arrays, name: &str, x: &str, epsilon: f64) -> Result<Name> {
    let scale = g.constant(get(own, &format!("{name}.gamma"))?);
    let shift = g.constant(get(own, &format!("{name}.beta"))?);
    let attributes = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(epsilon as f32))];
    Ok(g.node("LayerNormalization", &[x, &scale, &shift], &attributes))
}

/// u·Φ(u), which opset 17 has no operation for.
fn gelu(g: &mut Graph, x: &str) -> Name {
    let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|n| g.number(n));
    let scaled = g.node("Div", &[x, &root], &[]);
    let erf = g.node("Erf", &[&scaled], &[]);
    let sum = g.node("Add", &[&erf, &one], &[]);
    let half = g.node("Mul", &[x, &half], &[]);
    g.node("Mul", &[&half, &sum], &[])
}
