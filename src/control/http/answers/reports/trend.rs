//! Where a daily figure is heading: a straight line by least squares, and when it reaches a target.
//!
//! The confidence is that of the slope: with `n` days, the 95 % interval of Student's t with `n - 2` degrees of freedom. The
//! earliest and the latest day come from the two ends of that interval, through the middle of the days.

/// Fewest days from which a trend is drawn: two weeks hold every day of the week twice.
pub const DAYS_MIN: usize = 14;
/// Furthest day that is told: ten years on, a straight line says nothing.
const HORIZON_DAYS: f64 = 3650.0;

/// A line through daily figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Days it rests on.
    pub days: usize,
    /// Rise a day.
    pub slope: f64,
    /// Half the width of the slope's 95 % interval.
    pub slope_error: f64,
    /// Share of the variance that the line explains, 0 to 1.
    pub r_squared: f64,
    /// Mean of the day numbers.
    middle: f64,
    /// Mean of the figures.
    level: f64,
}

/// When a line reaches a target, in day numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// The line is there already on the last day.
    Reached,
    /// It will be.
    On {
        /// The line's own day.
        day: f64,
        /// With the steepest likely slope.
        earliest: f64,
        /// With the flattest likely slope; `None` when that never gets there.
        latest: Option<f64>,
    },
    /// It falls, stands, or takes more than ten years.
    NotInSight,
}

impl Line {
    /// Through figures by day number. `None` under [`DAYS_MIN`] days.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let days = points.len();
        if days < DAYS_MIN {
            return None;
        }
        let n = days as f64;
        let middle = points.iter().map(|p| p.0).sum::<f64>() / n;
        let level = points.iter().map(|p| p.1).sum::<f64>() / n;
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in points {
            let (dx, dy) = (x - middle, y - level);
            xx += dx * dx;
            xy += dx * dy;
            yy += dy * dy;
        }
        if xx <= 0.0 {
            return None;
        }
        let slope = xy / xx;
        let residual = (yy - slope * xy).max(0.0);
        let slope_error = student_975(n - 2.0) * (residual / (n - 2.0) / xx).sqrt();
        // Figures that never change lie on their line.
        let r_squared = if yy > 0.0 { (1.0 - residual / yy).clamp(0.0, 1.0) } else { 1.0 };
        Some(Self { days, slope, slope_error, r_squared, middle, level })
    }

    /// The line's figure on a day.
    pub fn at(&self, day: f64) -> f64 {
        self.level + self.slope * (day - self.middle)
    }

    /// When it reaches a target, seen from the last day.
    pub fn reach(&self, target: f64, last_day: f64) -> Reach {
        if self.at(last_day) >= target {
            return Reach::Reached;
        }
        let day = |slope: f64| {
            let day = self.middle + (target - self.level) / slope;
            Some(day).filter(|day| slope > 0.0 && *day <= last_day + HORIZON_DAYS)
        };
        let Some(expected) = day(self.slope) else { return Reach::NotInSight };
        let earliest = day(self.slope + self.slope_error).unwrap_or(expected).max(last_day);
        Reach::On { day: expected, earliest, latest: day(self.slope - self.slope_error) }
    }
}

/// The 97.5 % quantile of Student's t: the expansion around the normal quantile, within 0.2 % from 12 degrees of freedom on.
fn student_975(freedom: f64) -> f64 {
    const Z: f64 = 1.959_964;
    let z3 = Z * Z * Z;
    let z5 = z3 * Z * Z;
    let first = (z3 + Z) / (4.0 * freedom);
    let second = (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * freedom * freedom);
    Z + first + second
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figure: impl Fn(f64) -> f64) -> Line {
        let points: Vec<_> = (0..20).map(|day| (f64::from(day), figure(f64::from(day)))).collect();
        Line::through(&points).unwrap()
    }

    #[test]
    fn a_straight_line_is_found_exactly() {
        // 100 + 5 a day: 195 on day 19, 240 on day 28.
        let line = line(|day| 100.0 + 5.0 * day);
        assert!((line.slope - 5.0).abs() < 1e-9 && line.slope_error < 1e-6 && line.r_squared > 0.999_999);
        let Reach::On { day, earliest, latest } = line.reach(240.0, 19.0) else { panic!() };
        assert!((day - 28.0).abs() < 1e-6 && (earliest - 28.0).abs() < 1e-3 && (latest.unwrap() - 28.0).abs() < 1e-3);
        assert_eq!(line.reach(195.0, 19.0), Reach::Reached);
    }

    #[test]
    fn figures_that_scatter_widen_the_interval() {
        // Worked out by hand: x 0..19, y = x with 3 more on odd days. Sxx = 665, Sxy = 665 + 3 * 5 = 680,
        // Syy = 665 + 2 * 15 + 9 * 5 = 740, residual = 740 - 680^2 / 665 = 44.662, t(18) = 2.1009.
        let line = line(|day| day + if day % 2.0 == 1.0 { 3.0 } else { 0.0 });
        assert!((line.slope - 680.0 / 665.0).abs() < 1e-9);
        assert!((line.slope_error - 2.1009 * (44.662_f64 / 18.0 / 665.0).sqrt()).abs() < 1e-4);
        assert!((line.r_squared - (1.0 - 44.662 / 740.0)).abs() < 1e-4);
        let Reach::On { day, earliest, latest } = line.reach(60.0, 19.0) else { panic!() };
        assert!(earliest < day && day < latest.unwrap());
    }

    #[test]
    fn a_line_that_falls_or_stands_reaches_nothing_more() {
        assert_eq!(line(|day| 100.0 - day).reach(101.0, 19.0), Reach::NotInSight);
        assert_eq!(line(|_| 7.0).reach(8.0, 19.0), Reach::NotInSight);
        assert_eq!(line(|_| 7.0).reach(7.0, 19.0), Reach::Reached);
        assert_eq!(line(|_| 7.0).r_squared, 1.0);
        assert_eq!(line(|day| day * 1e-3).reach(1000.0, 19.0), Reach::NotInSight);
    }

    #[test]
    fn under_two_weeks_there_is_no_trend() {
        let points: Vec<_> = (0..13).map(|day| (f64::from(day), 1.0)).collect();
        assert_eq!(Line::through(&points), None);
        assert_eq!(Line::through(&[(1.0, 1.0); 20]), None);
    }
}
