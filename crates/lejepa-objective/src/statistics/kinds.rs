//! The names by which a configuration chooses the built-in statistics, and the ranges it must keep.

use lejepa_core::{BoxedStatistic, Error, Result, StatisticKind, register_statistic};

use super::*;

/// Registers a statistic whose struct is its own configuration.
macro_rules! statistic {
    ($kind:ident, $file:literal, $name:literal, $about:literal, |$s:ident| [$(($key:literal, $ok:expr, $range:literal)),*]) => {
        impl StatisticKind for $kind {
            const NAME: &'static str = $name;
            const ABOUT: &'static str = $about;
            type Config = Self;
            fn docs() -> lejepa_core::config::Docs {
                lejepa_core::config::field_docs(include_str!($file), stringify!($kind))
            }
            fn build($s: &Self) -> Result<BoxedStatistic> {
                $(check($key, $ok, $range)?;)*
                Ok($s.clone().into())
            }
        }
        register_statistic!($kind);
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
    if ok { Ok(()) } else { Err(Error::bad_value(format!("objective.{key}"), range)) }
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
    |s| [("beta", s.beta > 0.0 && s.beta.is_finite(), "must be above 0")]
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
    |s| [("gamma", s.gamma > 0.0 && s.gamma.is_finite(), "must be above 0")]
);
statistic!(
    HenzeVisagie,
    "multivariate.rs",
    "henze_visagie",
    "a differential equation of the generating function",
    |s| [("gamma", s.gamma > 0.0 && s.gamma.is_finite(), "must be above 0")]
);

#[cfg(test)]
mod tests {
    use lejepa_core::Registry;

    #[test]
    fn every_statistic_is_registered_and_builds_from_its_defaults() {
        let registry = Registry::discover().unwrap();
        let names: Vec<&str> = registry.statistics().map(|s| s.name).collect();
        assert_eq!(names.len(), 15, "{names:?}");
        for entry in registry.statistics() {
            (entry.build)(&(entry.defaults)().unwrap()).unwrap();
            assert_eq!(entry.origin.krate, "lejepa-objective");
        }
    }

    #[test]
    fn settings_out_of_range_and_unknown_names_are_refused() {
        let registry = Registry::discover().unwrap();
        for (name, settings, says) in [
            ("epps_pulley", "knots = 1", "objective.knots"),
            ("epps_pulley", "t_max = 0.0", "objective.t_max"),
            ("epps_pulley", "t_max = nan", "objective.t_max"),
            ("moments", "k_max = 0", "objective.k_max"),
            ("vasicek_entropy", "m = 0", "objective.m"),
            ("order_statistic_nll", "alpha = 0.7", "objective.alpha"),
            ("bhep", "beta = -1.0", "objective.beta"),
            ("watson", "m = 1", "unknown field `m`"),
        ] {
            let entry = registry.find_statistic(name).unwrap();
            let error = (entry.build)(&settings.parse().unwrap()).err().unwrap().to_string();
            assert!(error.contains(says), "{name}, {settings}: {error}");
        }
        let error = registry.find_statistic("anderson").err().unwrap();
        assert!(error.hint().unwrap().contains("did you mean `anderson_darling`"), "{error}");
    }
}
