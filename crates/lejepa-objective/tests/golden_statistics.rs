//! Values and gradients of every statistic against reference values.
//!
//! The values are read from `tests/golden/reference.json` and `extra.json`, or from the file of the
//! same form that the environment variable `LEJEPA_GOLDEN` names. They are of the published code,
//! in f64 but for the weights of Shapiro-Wilk, which it keeps in f32. Those of `exact.json` are of
//! the formulas, in 50-digit arithmetic. Ours are in f64.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use lejepa_objective::statistics::{
    AndersonDarling, Bhep, BhepM, Comb, Covariance, CramerVonMises, Entropy, EppsPulley,
    Expectation, ExtendedJarqueBera, HenzeVisagie, HenzeZirkler, LogCdf, Moments,
    MultivariateStatistic, OrderStatisticNll, ShapiroWilk, Spacing, Statistic, VcReg, Watson,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Of an expected value, and of the largest one of its entry.
const VALUE_TOLERANCE: (f64, f64) = (1e-4, 1e-5);
const GRADIENT_TOLERANCE: (f64, f64) = (1e-3, 1e-4);
/// The weights with Rahman's covariance are differences of neighbours that agree in all but 1/N² of
/// their size: those in f32 are off by up to 3·10⁻⁵ for 128 samples, half of them being below 0.06.
const F32_WEIGHTS_TOLERANCE: (f64, f64) = (1e-3, 3e-4);
const EXACT_TOLERANCE: (f64, f64) = (1e-9, 1e-12);

fn in_repository(file: &str) -> String {
    format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn references() -> Vec<Value> {
    match std::env::var("LEJEPA_GOLDEN") {
        Ok(path) => vec![read(&path)],
        Err(_) => ["reference.json", "extra.json"].map(|file| read(&in_repository(file))).into(),
    }
}

/// One entry of the file, with its name for messages.
struct Entry<'a> {
    name: String,
    statistic: &'a str,
    params: &'a serde_json::Map<String, Value>,
    input: Tensor<3>,
    value: Vec<f64>,
    gradient: Vec<f64>,
}

/// The shape and the numbers of `{"shape": …, "data": …}`; null is NaN.
fn array(name: &str, value: Option<&Value>) -> (Vec<usize>, Vec<f64>) {
    let value = value.unwrap_or_else(|| panic!("{name}: missing"));
    let list = |key: &str| {
        let list = value.get(key).and_then(Value::as_array);
        list.unwrap_or_else(|| panic!("{name}: no list {key}"))
    };
    let shape: Vec<usize> =
        list("shape").iter().map(|n| n.as_u64().expect("a size") as usize).collect();
    let data: Vec<f64> = match value.get("data") {
        Some(Value::Number(x)) => vec![x.as_f64().expect("a number")],
        _ => list("data")
            .iter()
            .map(|x| if x.is_null() { f64::NAN } else { x.as_f64().expect("a number") })
            .collect(),
    };
    assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}: shape and data differ");
    (shape, data)
}

impl<'a> Entry<'a> {
    fn all(golden: &'a Value, section: &str, device: &Device) -> Vec<Self> {
        let list = golden.get(section).and_then(Value::as_array).expect("a list of entries");
        assert!(!list.is_empty(), "{section}: no entries");
        list.iter().map(|entry| Self::new(golden, entry, device)).collect()
    }

    fn new(golden: &'a Value, entry: &'a Value, device: &Device) -> Self {
        let text = |key: &str| {
            let text = entry.get(key).and_then(Value::as_str);
            text.unwrap_or_else(|| panic!("no {key}: {}", &entry.to_string()[..200]))
        };
        let statistic = text("statistic");
        let params = entry.get("params").and_then(Value::as_object).expect("params");
        let name = format!("{statistic}({}) of {}", entry["params"], text("input"));
        let (shape, data) = array(&name, golden["inputs"].get(text("input")));
        let [rows, columns] = shape[..] else { panic!("{name}: not a matrix") };
        let data = TensorData::new(data, [1, rows, columns]);
        let input = Tensor::<3>::from_data(data, (device, DType::F64)).require_grad();
        let (_, value) = array(&name, entry.get("value"));
        let (gradient_shape, gradient) = array(&name, entry.get("grad"));
        assert_eq!(gradient_shape, shape, "{name}: shape of the gradient");
        Self { name, statistic, params, input, value, gradient }
    }

    /// The parameters of the given names, which must be all there are.
    fn params<const N: usize>(&self, names: [&str; N]) -> [&'a Value; N] {
        assert_eq!(self.params.len(), N, "{}: parameters", self.name);
        names.map(|key| self.params.get(key).unwrap_or_else(|| panic!("{}: no {key}", self.name)))
    }

    fn float(&self, key: &str) -> f64 {
        self.params([key])[0].as_f64().expect("a number")
    }

    /// Compares and returns the errors of value and gradient relative to the largest of each.
    fn check<const D: usize>(&self, result: Tensor<D>, compare: Tensor<D>) -> (f64, f64) {
        let f32_weights = self.params.get("covariance").is_some_and(|c| c == "rahman");
        let tolerance = if f32_weights { F32_WEIGHTS_TOLERANCE } else { GRADIENT_TOLERANCE };
        self.check_within(result, compare, [VALUE_TOLERANCE, tolerance])
    }

    fn check_within<const D: usize>(
        &self,
        result: Tensor<D>,
        compare: Tensor<D>,
        [of_value, of_gradient]: [(f64, f64); 2],
    ) -> (f64, f64) {
        let gradients = result.sum().backward();
        let gradient = self.input.grad(&gradients).expect("a gradient");
        let part = |part| format!("{}, {part}", self.name);
        (
            close(&part("value"), &numbers(compare), &self.value, of_value),
            close(&part("gradient"), &numbers(gradient), &self.gradient, of_gradient),
        )
    }

    /// The statistic whose settings the parameters are.
    fn of_settings<S: DeserializeOwned>(&self) -> S {
        let settings = Value::Object(self.params.clone());
        serde_json::from_value(settings).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn close(name: &str, got: &[f64], want: &[f64], (of_each, of_largest): (f64, f64)) -> f64 {
    assert_eq!(got.len(), want.len(), "{name}: number of values");
    let largest = want.iter().filter(|x| x.is_finite()).fold(0f64, |a, x| a.max(x.abs()));
    let mut worst = 0f64;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        if w.is_nan() {
            assert!(g.is_nan(), "{name}[{i}]: got {g}, want NaN");
            continue;
        }
        let allowed = of_each * w.abs() + of_largest * largest;
        assert!((g - w).abs() <= allowed, "{name}[{i}]: got {g}, want {w}");
        worst = worst.max((g - w).abs() / largest.max(f64::MIN_POSITIVE));
    }
    worst
}

/// The largest errors of each statistic, shown with `--nocapture`.
#[derive(Default)]
struct Report(BTreeMap<String, (usize, f64, f64)>);

impl Report {
    fn add(&mut self, statistic: &str, (value, gradient): (f64, f64)) {
        let line = self.0.entry(statistic.to_string()).or_default();
        *line = (line.0 + 1, line.1.max(value), line.2.max(gradient));
    }

    fn print(&self) {
        for (name, (count, value, gradient)) in &self.0 {
            println!("{name}: {count} entries, value to {value:.1e}, gradient to {gradient:.1e}");
        }
    }
}

fn univariate(entry: &Entry) -> Box<dyn Statistic> {
    let log_cdf = LogCdf::Published;
    match entry.statistic {
        "epps_pulley" => {
            let [t_max, knots] = entry.params(["t_max", "n_points"]);
            let (t_max, knots) = (t_max.as_f64().unwrap(), knots.as_u64().unwrap() as usize);
            Box::new(EppsPulley { t_max, knots, ..EppsPulley::default() })
        }
        "shapiro_wilk" => {
            let [expectation, covariance] = entry.params(["expectation", "covariance"]);
            let expectation: Expectation = serde_json::from_value(expectation.clone()).unwrap();
            let covariance: Covariance = serde_json::from_value(covariance.clone()).unwrap();
            Box::new(ShapiroWilk { expectation, covariance })
        }
        "entropy" => {
            let [m, method] = entry.params(["m", "method"]);
            let method = match method.as_str() {
                Some("centered") => Spacing::CenteredPublished,
                Some("right") => Spacing::Right,
                other => panic!("{}: unknown method {other:?}", entry.name),
            };
            Box::new(Entropy { m: m.as_u64().unwrap() as usize, method })
        }
        "moments" => Box::new(Moments { k_max: entry.float("k_max") as usize }),
        plain => {
            entry.params([]);
            match plain {
                "anderson_darling" => Box::new(AndersonDarling { log_cdf }),
                "cramer_von_mises" => Box::new(CramerVonMises {}),
                "watson" => Box::new(Watson {}),
                "extended_jarque_bera" => Box::new(ExtendedJarqueBera {}),
                "vc_reg" => Box::new(VcReg {}),
                _ => panic!("unknown statistic: {}", entry.name),
            }
        }
    }
}

fn multivariate(entry: &Entry) -> Box<dyn MultivariateStatistic> {
    match entry.statistic {
        "bhep" => Box::new(Bhep { beta: entry.float("beta") }),
        "hz" => {
            entry.params([]);
            Box::new(HenzeZirkler {})
        }
        "comb" => Box::new(Comb { gamma: entry.float("gamma") }),
        "hv" => Box::new(HenzeVisagie { gamma: entry.float("gamma") }),
        _ => panic!("unknown statistic: {}", entry.name),
    }
}

#[test]
fn golden_univariate_statistics() {
    let mut report = Report::default();
    for golden in references() {
        for entry in Entry::all(&golden, "univariate", &Device::flex().autodiff()) {
            let errors = if entry.statistic == "nll" {
                nll(&entry)
            } else {
                let result = univariate(&entry).evaluate(entry.input.clone());
                entry.check(result.clone(), result)
            };
            report.add(entry.statistic, errors);
        }
    }
    report.print();
}

/// The values are one for each sample. The published code that they come from undoes its sorting
/// by the permutation that sorts rather than by the inverse of that, so sample i has the value
/// that belongs to the sample at order[order[i]]. Their sum, and so the gradient, is not affected.
fn nll(entry: &Entry) -> (f64, f64) {
    let statistic = OrderStatisticNll { alpha: entry.float("alpha"), log_cdf: LogCdf::Published };
    let values = statistic.per_sample(entry.input.clone());
    let mean = statistic.evaluate(entry.input.clone());
    let [_, samples, _] = values.dims();
    let means = numbers(values.clone().mean_dim(1));
    close(&format!("{}, mean", entry.name), &numbers(mean), &means, (1e-12, 1e-12));
    let order = entry.input.clone().argsort(1);
    assert_eq!(order.dims()[1], samples);
    let displaced = values.clone().gather(1, order.clone()).gather(1, order);
    entry.check(values, displaced)
}

#[test]
fn golden_multivariate_statistics() {
    let mut report = Report::default();
    for golden in references() {
        for entry in Entry::all(&golden, "multivariate", &Device::flex().autodiff()) {
            let result = multivariate(&entry).evaluate(entry.input.clone());
            report.add(entry.statistic, entry.check(result.clone(), result));
        }
    }
    report.print();
}

#[test]
fn exact_statistics() {
    let golden = read(&in_repository("exact.json"));
    let mut report = Report::default();
    for entry in Entry::all(&golden, "univariate", &Device::flex().autodiff()) {
        let statistic: Box<dyn Statistic> = match entry.statistic {
            "anderson_darling" => Box::new(entry.of_settings::<AndersonDarling>()),
            "moments" => Box::new(entry.of_settings::<Moments>()),
            "order_statistic_nll" => Box::new(entry.of_settings::<OrderStatisticNll>()),
            "shapiro_wilk" => Box::new(entry.of_settings::<ShapiroWilk>()),
            _ => panic!("unknown statistic: {}", entry.name),
        };
        let result = statistic.evaluate(entry.input.clone());
        let errors = entry.check_within(result.clone(), result, [EXACT_TOLERANCE; 2]);
        report.add(entry.statistic, errors);
    }
    for entry in Entry::all(&golden, "multivariate", &Device::flex().autodiff()) {
        let statistic: Box<dyn MultivariateStatistic> = match entry.statistic {
            "bhep" => Box::new(entry.of_settings::<Bhep>()),
            "bhep_m" => Box::new(entry.of_settings::<BhepM>()),
            "comb" => Box::new(entry.of_settings::<Comb>()),
            "henze_visagie" => Box::new(entry.of_settings::<HenzeVisagie>()),
            _ => panic!("unknown statistic: {}", entry.name),
        };
        let result = statistic.evaluate(entry.input.clone());
        let errors = entry.check_within(result.clone(), result, [EXACT_TOLERANCE; 2]);
        report.add(entry.statistic, errors);
    }
    report.print();
}
