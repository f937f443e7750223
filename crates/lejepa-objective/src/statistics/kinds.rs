//! The names by which a configuration chooses the built-in statistics, and the ranges it must keep.

use lejepa_core::{BoxedStatistic, Component, Error, Result, StatisticKind, kind, register};

use super::*;

/// A statistic whose struct is its own configuration.
macro_rules! statistic {
    ($kind:ident, $file:literal, $name:literal, $about:literal, |$s:ident| [$(($key:literal, $ok:expr, $range:literal)),*]) => {
        impl Component for $kind {
            const NAME: &'static str = $name;
            const ABOUT: &'static str = $about;
            type Config = Self;
            fn docs() -> lejepa_core::config::Docs {
                lejepa_core::config::field_docs(include_str!($file), stringify!($kind))
            }
        }
        impl StatisticKind for $kind {
            fn build($s: &Self) -> Result<BoxedStatistic> {
                $(check($key, $ok, $range)?;)*
                Ok($s.clone().into())
            }
        }
    };
}

/// Which of the two kinds a struct is.
macro_rules! boxed {
    ($make:ident: $($kind:ident)*) => {
        $(impl From<$kind> for BoxedStatistic {
            fn from(statistic: $kind) -> Self {
                BoxedStatistic::$make(statistic)
            }
        })*
    };
}

boxed!(sliced: EppsPulley AndersonDarling CramerVonMises Watson ExtendedJarqueBera VcReg Moments
    ShapiroWilk Entropy OrderStatisticNll);
boxed!(multivariate: Bhep BhepM HenzeZirkler Comb HenzeVisagie);

fn check(key: &str, ok: bool, range: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::bad_value(format!("statistic.{key}"), range)) }
}

statistic!(
    EppsPulley,
    "epps_pulley.rs",
    "epps_pulley",
    "characteristic function (the paper's choice, fused)",
    |s| [
        ("knots", (2..=4096).contains(&s.knots), "must lie in 2..=4096"),
        ("t_max", s.t_max > 0.0 && s.t_max.is_finite(), "must be above 0")
    ]
);
statistic!(
    AndersonDarling,
    "ecdf.rs",
    "anderson_darling",
    "distribution function, tails weighted",
    |s| []
);
statistic!(CramerVonMises, "ecdf.rs", "cramer_von_mises", "distribution function", |s| []);
statistic!(Watson, "ecdf.rs", "watson", "distribution function, on a circle", |s| []);
statistic!(
    ExtendedJarqueBera,
    "moments.rs",
    "extended_jarque_bera",
    "mean, variance, skewness, kurtosis",
    |s| []
);
statistic!(VcReg, "moments.rs", "vcreg", "mean and variance alone", |s| []);
statistic!(Moments, "moments.rs", "moments", "raw moments up to k_max", |s| [(
    "k_max",
    (1..=40).contains(&s.k_max),
    "must lie in 1..=40"
)]);
statistic!(
    ShapiroWilk,
    "shapiro_wilk.rs",
    "shapiro_wilk",
    "order statistics against their expectations",
    |s| []
);
statistic!(Entropy, "entropy.rs", "vasicek_entropy", "entropy by spacings of order m", |s| [(
    "m",
    s.m >= 1,
    "must be at least 1"
)]);
statistic!(
    OrderStatisticNll,
    "nll.rs",
    "order_statistic_nll",
    "likelihood of the order statistics",
    |s| [("alpha", (0.0..=0.5).contains(&s.alpha), "must lie in 0..=0.5")]
);
statistic!(
    Bhep,
    "multivariate.rs",
    "bhep",
    "characteristic function in all dimensions, N² pairs",
    |s| [("beta", s.beta > 0.0 && s.beta.is_finite(), "must be above 0")]
);
statistic!(
    BhepM,
    "multivariate.rs",
    "bhep_m",
    "moment generating function in all dimensions, N² pairs",
    |s| [("beta", s.beta >= 1.01 && s.beta.is_finite(), "must be at least 1.01")]
);
statistic!(
    HenzeZirkler,
    "multivariate.rs",
    "henze_zirkler",
    "bhep with a width from N and the dimension",
    |s| []
);
statistic!(
    Comb,
    "multivariate.rs",
    "comb",
    "characteristic and moment generating functions, N² pairs",
    |s| [("gamma", s.gamma >= 0.001 && s.gamma.is_finite(), "must be at least 0.001")]
);
statistic!(
    HenzeVisagie,
    "multivariate.rs",
    "henze_visagie",
    "a differential equation of the generating function",
    |s| [("gamma", s.gamma >= 0.001 && s.gamma.is_finite(), "must be at least 0.001")]
);

register!(
    kind::Prediction: crate::CentrePrediction,
    kind::Statistic: EppsPulley,
    kind::Statistic: AndersonDarling,
    kind::Statistic: CramerVonMises,
    kind::Statistic: Watson,
    kind::Statistic: ExtendedJarqueBera,
    kind::Statistic: VcReg,
    kind::Statistic: Moments,
    kind::Statistic: ShapiroWilk,
    kind::Statistic: Entropy,
    kind::Statistic: OrderStatisticNll,
    kind::Statistic: Bhep,
    kind::Statistic: BhepM,
    kind::Statistic: HenzeZirkler,
    kind::Statistic: Comb,
    kind::Statistic: HenzeVisagie,
);

#[cfg(test)]
mod tests {
    use lejepa_core::{Entry, Registry, kind};

    #[test]
    fn every_statistic_is_registered_and_builds_from_its_defaults() {
        let registry = Registry::discover().unwrap();
        let names: Vec<&str> = registry.all::<kind::Statistic>().map(|s| s.meta().name).collect();
        assert_eq!(names.len(), 15, "{names:?}");
        for item in registry.all::<kind::Statistic>() {
            let entry: &Entry<kind::Statistic> = item.entry().unwrap();
            (entry.build())(&item.meta().defaults().unwrap()).unwrap();
            assert_eq!(item.origin().krate, "lejepa-objective");
        }
    }

    #[test]
    fn settings_out_of_range_and_unknown_names_are_refused() {
        let registry = Registry::discover().unwrap();
        for (name, settings, says) in [
            ("epps_pulley", "knots = 1", "statistic.knots"),
            ("epps_pulley", "t_max = 0.0", "statistic.t_max"),
            ("epps_pulley", "t_max = nan", "statistic.t_max"),
            ("moments", "k_max = 0", "statistic.k_max"),
            ("vasicek_entropy", "m = 0", "statistic.m"),
            ("order_statistic_nll", "alpha = 0.7", "statistic.alpha"),
            ("bhep", "beta = -1.0", "statistic.beta"),
            ("bhep_m", "beta = 1.0", "statistic.beta"),
            ("comb", "gamma = 1e-4", "statistic.gamma"),
            ("henze_visagie", "gamma = 0.0", "statistic.gamma"),
            ("watson", "m = 1", "unknown field `m`"),
        ] {
            let entry = registry.find::<kind::Statistic>(name, None).unwrap();
            let error = (entry.build())(&settings.parse().unwrap()).err().unwrap().to_string();
            assert!(error.contains(says), "{name}, {settings}: {error}");
        }
        let error = registry.find::<kind::Statistic>("anderson", None).unwrap_err();
        assert!(error.hint().unwrap().contains("did you mean `anderson_darling`"), "{error}");
    }
}
