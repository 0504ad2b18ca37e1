//! Where figures go: a line through what was stored that a few odd points do not move (Theil and Sen: the median of the slopes between all
//! pairs of points), when it reaches a bound, and how a figure depends on the load.

/// Fewer points than this say nothing.
const LEAST: usize = 12;
/// Most points that are looked at: so many squared are compared.
const MOST: usize = 300;

/// A line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// By how much it rises for each step to the right.
    pub slope: f64,
    /// Where it is at zero.
    pub base: f64,
}

impl Line {
    /// Through these points; none if there are too few, or all of them lie above each other. Of too many those are taken that are evenly
    /// apart.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < LEAST {
            return None;
        }
        let apart = points.len().div_ceil(MOST);
        let points: Vec<(f64, f64)> = points.iter().rev().step_by(apart).copied().collect();
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (at, (x, y)) in points.iter().enumerate() {
            for (other_x, other_y) in &points[at + 1..] {
                if (x - other_x).abs() > f64::EPSILON {
                    slopes.push((y - other_y) / (x - other_x));
                }
            }
        }
        let slope = median(slopes)?;
        let base = median(points.iter().map(|(x, y)| y - slope * x).collect())?;
        Some(Self { slope, base })
    }

    /// How high it is there.
    pub fn at(&self, x: f64) -> f64 {
        self.base + self.slope * x
    }

    /// Where it is as high as `height`, if that is to the right of `from`.
    pub fn reaches(&self, height: f64, from: f64) -> Option<f64> {
        let x = (height - self.base) / self.slope;
        (self.slope > 0.0 && x.is_finite() && x > from).then_some(x)
    }
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    let middle = numbers.len().checked_sub(1)? / 2;
    Some(*numbers.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_odd_points_do_not_move_the_line() {
        let mut points: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), 3.0 + 0.5 * f64::from(x))).collect();
        for odd in [7, 30, 31, 77] {
            points[odd].1 = 900.0;
        }
        let line = Line::through(&points).unwrap();
        assert!((line.slope - 0.5).abs() < 1e-9 && (line.base - 3.0).abs() < 1e-9, "{line:?}");
        assert!((line.reaches(103.0, 99.0).unwrap() - 200.0).abs() < 1e-6);
        assert_eq!(line.reaches(10.0, 99.0), None, "it was there before");
    }

    #[test]
    fn too_little_says_nothing_and_what_falls_reaches_nothing() {
        assert_eq!(Line::through(&[(0.0, 1.0); 5]), None);
        assert_eq!(Line::through(&[(0.0, 1.0); 50]), None);
        let falls: Vec<(f64, f64)> = (0..1_000).map(|x| (f64::from(x), -f64::from(x))).collect();
        let line = Line::through(&falls).unwrap();
        assert!((line.slope + 1.0).abs() < 1e-9);
        assert_eq!(line.reaches(0.0, 2_000.0), None);
    }
}
