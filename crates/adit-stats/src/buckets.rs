//! The log-linear buckets of Envoy's histograms (circllhist): 90 buckets for each power of ten, two digits of
//! precision, and the quantiles computed from them.

/// The quantiles of the readouts, in percent: `P0 P25 P50 P75 P90 P95 P99 P99.5 P99.9 P100`.
pub const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// Envoy's default bucket bounds (`le` of the Prometheus form, without `+Inf`).
pub const PROMETHEUS_BOUNDS: [f64; 19] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];

/// Powers of ten that a `u64` can reach: 10^0 to 10^19.
pub(crate) const DECADES: usize = 20;
/// Buckets in one power of ten: mantissas 10 to 99.
pub(crate) const PER_DECADE: usize = 90;

/// The bucket of `value`: `None` is the bucket of zero, else (power of ten, mantissa - 10).
pub(crate) fn bucket_of(value: u64) -> Option<(usize, usize)> {
    let decade = value.checked_ilog10()?;
    let mantissa = match decade {
        0 => value * 10,
        _ => value / 10u64.pow(decade - 1),
    };
    Some((decade as usize, (mantissa as usize).saturating_sub(10).min(PER_DECADE - 1)))
}

/// The number of a bucket, in the order of values; zero is 0.
pub(crate) fn bucket_id(bucket: Option<(usize, usize)>) -> u16 {
    bucket.map_or(0, |(decade, mantissa)| (1 + decade * PER_DECADE + mantissa) as u16)
}

/// Lower edge and width of a bucket.
pub(crate) fn edges(id: u16) -> (f64, f64) {
    let Some(n) = id.checked_sub(1) else {
        return (0.0, 0.0);
    };
    let power = 10f64.powi(i32::from(n) / PER_DECADE as i32);
    let mantissa = f64::from(10 + n % PER_DECADE as u16);
    // Multiplied first, so that the edges of whole numbers are whole.
    (mantissa * power / 10.0, power / 10.0)
}

/// A merged histogram: the filled buckets in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bins {
    pub(crate) bins: Vec<(u16, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Bins {
    /// Adds `count` samples to the bucket `id`.
    pub(crate) fn add(&mut self, id: u16, count: u64) {
        if count == 0 {
            return;
        }
        self.count = self.count.saturating_add(count);
        match self.bins.binary_search_by_key(&id, |bin| bin.0) {
            Ok(at) => self.bins[at].1 = self.bins[at].1.saturating_add(count),
            Err(at) => self.bins.insert(at, (id, count)),
        }
    }

    /// What came since `before`, an earlier state of the same.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut since = Self { sum: self.sum.wrapping_sub(before.sum), ..Self::default() };
        let mut old = before.bins.iter().peekable();
        for &(id, count) in &self.bins {
            // Both are in the order of ids, and what was filled once stays so.
            let seen = old.next_if(|(seen, _)| *seen == id).map_or(0, |(_, count)| *count);
            since.add(id, count.saturating_sub(seen));
        }
        since
    }

    /// The value at each of [`QUANTILES`], interpolated inside a bucket as circllhist does; NaN without samples.
    pub(crate) fn quantiles(&self) -> [f64; QUANTILES.len()] {
        let mut out = [f64::NAN; QUANTILES.len()];
        let mut bins = self.bins.iter();
        let Some(&(first, count)) = bins.next() else {
            return out;
        };
        let (mut left, mut width) = edges(first);
        let (mut lower, mut upper) = (0.0, count as f64);
        for (out, percent) in out.iter_mut().zip(QUANTILES) {
            let rank = self.count as f64 * (percent / 100.0);
            while upper < rank {
                let Some(&(id, count)) = bins.next() else {
                    break;
                };
                (left, width) = edges(id);
                (lower, upper) = (upper, upper + count as f64);
            }
            *out = if rank == lower {
                left
            } else if rank >= upper {
                left + width
            } else {
                left + (rank - lower) / (upper - lower) * width
            };
        }
        out
    }

    /// Samples in buckets that lie wholly at or below each of [`PROMETHEUS_BOUNDS`], which is what Envoy counts.
    pub(crate) fn below_bounds(&self) -> [u64; PROMETHEUS_BOUNDS.len()] {
        let mut bins = self.bins.iter().peekable();
        let mut count = 0u64;
        PROMETHEUS_BOUNDS.map(|bound| {
            while let Some(&(_, n)) = bins.next_if(|(id, _)| {
                let (left, width) = edges(*id);
                left + width <= bound
            }) {
                count = count.saturating_add(n);
            }
            count
        })
    }

    /// Samples between each of [`PROMETHEUS_BOUNDS`] and the bound before it.
    pub(crate) fn disjoint(&self) -> [u64; PROMETHEUS_BOUNDS.len()] {
        let mut previous = 0;
        self.below_bounds().map(|count| count.saturating_sub(std::mem::replace(&mut previous, count)))
    }
}

#[cfg(test)]
mod tests;
