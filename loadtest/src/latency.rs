//! Latency series: HDR histograms with three significant digits, in
//! nanoseconds from 1 us to 10 minutes.

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

/// One series. Recording is a short lock; nothing is ever left out: what lies
/// outside the range counts at the range's end.
#[derive(Debug)]
pub struct Series(Mutex<Histogram<u64>>);

/// What the report says of a series. Times in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Quantiles {
    /// How many samples there are.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl Default for Series {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS)
            .expect("constant bounds that the crate allows");
        Self(Mutex::new(histogram))
    }
}

impl Series {
    /// Records one latency in nanoseconds.
    pub fn record(&self, ns: u64) {
        self.0.lock().saturating_record(ns.max(LOWEST_NS));
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.0.lock().reset();
    }

    /// The quantiles so far.
    pub fn quantiles(&self) -> Quantiles {
        let histogram = self.0.lock();
        if histogram.is_empty() {
            return Quantiles::default();
        }
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        Quantiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(histogram.max()),
        }
    }
}

/// Nanoseconds as milliseconds, to the microsecond.
pub fn milliseconds(ns: u64) -> f64 {
    (ns as f64 / 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_digits() {
        let series = Series::default();
        for us in 1..=10_000u64 {
            series.record(us * 1_000);
        }
        let q = series.quantiles();
        assert_eq!(q.count, 10_000);
        for (got, want) in [(q.p50, 5.0), (q.p90, 9.0), (q.p99, 9.9), (q.p999, 9.99), (q.max, 10.0)]
        {
            assert!((got / want - 1.0).abs() < 0.002, "{got} {want}");
        }
    }

    #[test]
    fn what_is_out_of_range_still_counts() {
        let series = Series::default();
        series.record(0);
        series.record(u64::MAX);
        let q = series.quantiles();
        assert_eq!(q.count, 2);
        assert!(q.max > 500_000.0);
    }

    #[test]
    fn an_empty_series_is_all_zero() {
        assert_eq!(Series::default().quantiles(), Quantiles::default());
    }
}
