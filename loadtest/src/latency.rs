//! Latency series: HDR histograms with three significant digits, in
//! nanoseconds from 1 us to 10 minutes. A series also knows when its samples came, second by second.

use std::time::Instant;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;
/// Digits of one second's histogram: there are only two at a time, and p99 is all that is asked.
const SECOND_DIGITS: u8 = 2;
/// Seconds that are kept apart; what comes later counts for the last one.
pub const SECONDS_MAX: usize = 86_400;
/// Points of a curve for each ten times fewer samples.
const POINTS_PER_NINE: u32 = 8;
/// Bins of a distribution for each power of ten: wide enough to be seen as a bar.
pub const BINS_PER_DECADE: u32 = 15;
/// Nines of a curve, at the most: more samples than fit in a run.
const NINES_MAX: u32 = 8;

/// One series. Recording is a short lock; nothing is ever left out: what lies
/// outside the range counts at the range's end.
#[derive(Debug)]
pub struct Series(Mutex<Samples>);

#[derive(Debug)]
struct Samples {
    all: Histogram<u64>,
    seconds: Seconds,
}

/// Samples by the second in which they came.
#[derive(Debug)]
struct Seconds {
    origin: Instant,
    /// The second under way and its samples.
    now: (u64, Histogram<u64>),
    done: Vec<Second>,
}

/// What came in one second. Times in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// Seconds since the measuring began.
    pub second: u64,
    /// Samples that came in it.
    pub count: u64,
    /// Their median.
    pub p50: f64,
    /// Their 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// The whole of a series, for drawing.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spectrum {
    /// Quantile (0 to 1) and milliseconds, by rising quantile; denser towards 1.
    pub quantiles: Vec<[f64; 2]>,
    /// From and to, in milliseconds, and the samples between, by rising milliseconds; each
    /// power of ten has [`BINS_PER_DECADE`] of them.
    pub histogram: Vec<[f64; 3]>,
}

/// What the report says of a series. Times in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
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
        Self(Mutex::new(Samples { all: histogram(DIGITS), seconds: Seconds::default() }))
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, digits)
        .expect("constant bounds that the crate allows")
}

impl Default for Seconds {
    fn default() -> Self {
        Self { origin: Instant::now(), now: (0, histogram(SECOND_DIGITS)), done: Vec::new() }
    }
}

impl Seconds {
    fn record(&mut self, at: Instant, ns: u64) {
        let second = at.saturating_duration_since(self.origin).as_secs();
        // Threads record a little out of turn: what is late counts for the second under way.
        if second > self.now.0 && self.done.len() < SECONDS_MAX {
            self.done.extend(self.under_way());
            self.now.0 = second;
            self.now.1.reset();
        }
        self.now.1.saturating_record(ns);
    }

    /// The second that has not ended, if anything came in it.
    fn under_way(&self) -> Option<Second> {
        let (second, histogram) = &self.now;
        let at = |quantile| milliseconds(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Second {
            second: *second,
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: milliseconds(histogram.max()),
        })
    }
}

impl Series {
    /// Records one latency in nanoseconds.
    pub fn record(&self, ns: u64) {
        let (at, ns) = (Instant::now(), ns.max(LOWEST_NS));
        let mut samples = self.0.lock();
        samples.all.saturating_record(ns);
        samples.seconds.record(at, ns);
    }

    /// Records latencies in nanoseconds that were found at the same time.
    pub fn record_all(&self, all_ns: &[u64]) {
        if all_ns.is_empty() {
            return;
        }
        let at = Instant::now();
        let mut samples = self.0.lock();
        for ns in all_ns {
            let ns = (*ns).max(LOWEST_NS);
            samples.all.saturating_record(ns);
            samples.seconds.record(at, ns);
        }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        let mut samples = self.0.lock();
        samples.all.reset();
        samples.seconds = Seconds::default();
    }

    /// The quantiles so far.
    pub fn quantiles(&self) -> Quantiles {
        let histogram = &self.0.lock().all;
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

    /// The samples so far by the second in which they came, without empty seconds.
    pub fn seconds(&self) -> Vec<Second> {
        let seconds = &self.0.lock().seconds;
        seconds.done.iter().copied().chain(seconds.under_way()).collect()
    }

    /// The whole curve so far.
    pub fn spectrum(&self) -> Spectrum {
        let histogram = &self.0.lock().all;
        if histogram.is_empty() {
            return Spectrum::default();
        }
        let fewest = 1.0 / histogram.len() as f64;
        let dense = (0..=POINTS_PER_NINE * NINES_MAX)
            .map(|n| 1.0 - 10f64.powf(-f64::from(n) / f64::from(POINTS_PER_NINE)))
            .take_while(|quantile| 1.0 - quantile >= fewest);
        let mut quantiles: Vec<f64> = dense.chain([0.5, 0.9, 0.99, 0.999, 1.0]).collect();
        quantiles.sort_by(f64::total_cmp);
        quantiles.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
        let at = |quantile: f64| milliseconds(histogram.value_at_quantile(quantile));
        Spectrum {
            quantiles: quantiles.into_iter().map(|quantile| [quantile, at(quantile)]).collect(),
            histogram: binned(histogram),
        }
    }
}

/// The distribution in few bins, whatever its digits.
fn binned(histogram: &Histogram<u64>) -> Vec<[f64; 3]> {
    let width = f64::from(BINS_PER_DECADE);
    let edge = |bin: f64| 10f64.powf(bin / width);
    let mut bins: Vec<(f64, f64)> = Vec::new();
    for bucket in histogram.iter_recorded() {
        let ms = milliseconds(bucket.value_iterated_to()).max(0.001);
        let (bin, count) = ((ms.log10() * width).floor(), bucket.count_since_last_iteration());
        match bins.last_mut() {
            Some((last, sum)) if (*last - bin).abs() < 0.5 => *sum += count as f64,
            _ => bins.push((bin, count as f64)),
        }
    }
    bins.into_iter().map(|(bin, count)| [edge(bin), edge(bin + 1.0), count]).collect()
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
    fn the_curve_rises_and_agrees_with_the_quantiles() {
        let series = Series::default();
        for us in 1..=10_000u64 {
            series.record(us * 1_000);
        }
        let (curve, q) = (series.spectrum(), series.quantiles());
        assert!(curve.quantiles.windows(2).all(|p| p[0][0] < p[1][0] && p[0][1] <= p[1][1]));
        for (quantile, want) in
            [(0.5, q.p50), (0.9, q.p90), (0.99, q.p99), (0.999, q.p999), (1.0, q.max)]
        {
            let found = curve.quantiles.iter().find(|p| (p[0] - quantile).abs() < 1e-9);
            assert_eq!(found.map(|p| p[1]), Some(want), "{quantile}");
        }
        let counted: f64 = curve.histogram.iter().map(|bin| bin[2]).sum();
        assert_eq!(counted, 10_000.0);
        assert!(curve.histogram.windows(2).all(|pair| pair[0][1] <= pair[1][0] + 1e-9));
        assert!(curve.histogram.len() < 100, "{}", curve.histogram.len());
    }

    #[test]
    fn each_sample_is_in_one_second_and_a_reset_begins_anew() {
        let mut seconds = Seconds::default();
        let after = |ms| seconds.origin + std::time::Duration::from_millis(ms);
        let times =
            [(10, 1), (999, 3), (1_000, 5), (3_500, 7), (990, 9)].map(|(ms, v)| (after(ms), v));
        for (at, value) in times {
            seconds.record(at, value * 1_000_000);
        }
        let found: Vec<Second> = seconds.done.iter().copied().chain(seconds.under_way()).collect();
        let told: Vec<_> = found.iter().map(|s| (s.second, s.count)).collect();
        // The last one was late by a turn: it counts for the second under way.
        assert_eq!(told, [(0, 2), (1, 1), (3, 2)]);
        assert!((found[2].max - 9.0).abs() < 0.1, "{found:?}");
        let series = Series::default();
        series.record(5);
        series.reset();
        assert_eq!((series.seconds(), series.spectrum()), (Vec::new(), Spectrum::default()));
    }

    #[test]
    fn an_empty_series_is_all_zero() {
        assert_eq!(Series::default().quantiles(), Quantiles::default());
    }
}
