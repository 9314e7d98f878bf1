//! Random numbers that are the same on every machine for the same seed.

/// SplitMix64: one multiplication a number, good enough for synthetic traffic, never for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A sequence of its own for each pair of seed and stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        rng.next_u64();
        rng
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0.0 (included) to 1.0 (left out).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..bound`; 0 when the bound is 0.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// True with this probability.
    #[inline]
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Log-normal by its median and the standard deviation of its logarithm.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        median * (sigma * radius * (std::f64::consts::TAU * self.unit()).cos()).exp()
    }

    /// Uniform in the logarithm, `low` to `high`.
    pub fn log_uniform(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// Puts a slice into random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

/// Ranks 0.. drawn with probability proportional to `1 / (rank + 1)^exponent`.
#[derive(Debug)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// For this many ranks, at least one.
    pub fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=ranks.max(1))
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulative }
    }

    /// Draws a rank.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        let last = self.cumulative.len() - 1;
        let at = rng.unit() * self.cumulative[last];
        self.cumulative.partition_point(|sum| *sum <= at).min(last) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(numbers(1, 2), numbers(1, 2));
        assert_ne!(numbers(1, 2), numbers(1, 3));
        assert_ne!(numbers(1, 2), numbers(2, 2));
    }

    #[test]
    fn zipf_ranks_fall_as_their_law_says() {
        let (zipf, mut rng) = (Zipf::new(1000, 1.0), Rng::new(7, 0));
        let mut hits = [0u32; 1000];
        for _ in 0..200_000 {
            hits[zipf.draw(&mut rng) as usize] += 1;
        }
        // H(1000) is 7.485: rank 0 gets 13.4 %, rank 9 a tenth of that.
        assert!((25_900..27_600).contains(&hits[0]), "{}", hits[0]);
        assert!((2_400..2_950).contains(&hits[9]), "{}", hits[9]);
    }

    #[test]
    fn log_normal_keeps_its_median() {
        let mut rng = Rng::new(3, 0);
        let below = (0..100_000).filter(|_| rng.log_normal(2000.0, 2.0) < 2000.0).count();
        assert!((49_000..51_000).contains(&below), "{below}");
    }

    #[test]
    fn bounds_hold() {
        let mut rng = Rng::new(9, 9);
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).all(|_| rng.below(3) < 3 && rng.log_uniform(1.0, 900.0) <= 900.0));
    }
}
