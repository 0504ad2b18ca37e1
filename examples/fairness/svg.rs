//! Plots as SVG: two axes, lines or dots, a legend. White behind them, because a manual may be read on black.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// Colours that can be told apart by everybody (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];

/// Points with a name, drawn as a line or as dots.
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dots: bool,
}

/// What is on the axis to the right.
pub enum Across {
    /// A number, from 0 to this.
    Number { label: &'static str, to: f64 },
    /// Names, at 0, 1, 2 and so on.
    Names(Vec<&'static str>),
}

/// A plot.
pub struct Plot {
    pub title: &'static str,
    pub across: Across,
    /// What is on the axis upwards, from where and to where.
    pub up: (&'static str, f64, f64),
    pub series: Vec<Series>,
    /// Lines across, with what they mean.
    pub marks: Vec<(f64, &'static str)>,
}

impl Plot {
    pub fn draw(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{0}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{0}</text>\n",
            self.title
        );
        self.axes(&mut svg);
        for (number, series) in self.series.iter().enumerate() {
            self.series(&mut svg, number, series);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, value: f64) -> f64 {
        let room = WIDTH - LEFT - RIGHT;
        match &self.across {
            Across::Number { to, .. } => LEFT + room * value / to,
            Across::Names(names) => LEFT + room * (value + 0.5) / names.len() as f64,
        }
    }

    fn y(&self, value: f64) -> f64 {
        let (_, from, to) = self.up;
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value.clamp(from, to) - from) / (to - from)
    }

    fn axes(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let (label, from, to) = self.up;
        for step in 0..=4 {
            let value = from + (to - from) * f64::from(step) / 4.0;
            let y = self.y(value);
            line(svg, (LEFT, y), (right, y), "#ddd", "");
            let digits = if to - from < 1.0 { 3 } else { usize::from(to < 10.0) };
            text(svg, (LEFT - 6.0, y + 4.0), "end", &format!("{value:.digits$}"));
        }
        match &self.across {
            Across::Number { label, to } => {
                for step in 0..=5 {
                    let value = to * f64::from(step) / 5.0;
                    text(svg, (self.x(value), bottom + 18.0), "middle", &format!("{value:.0}"));
                }
                text(svg, (f64::midpoint(LEFT, right), bottom + 38.0), "middle", label);
            }
            Across::Names(names) => {
                for (number, name) in names.iter().enumerate() {
                    text(svg, (self.x(number as f64), bottom + 18.0), "middle", name);
                }
            }
        }
        line(svg, (LEFT, bottom), (right, bottom), "#333", "");
        line(svg, (LEFT, TOP), (LEFT, bottom), "#333", "");
        let middle = f64::midpoint(TOP, bottom);
        _ = writeln!(
            svg,
            "<text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{label}</text>"
        );
        for (value, meaning) in &self.marks {
            let y = self.y(*value);
            line(svg, (LEFT, y), (right, y), "#333", " stroke-dasharray=\"5 4\"");
            text(svg, (right + 8.0, y + 4.0), "start", meaning);
        }
    }

    fn series(&self, svg: &mut String, number: usize, series: &Series) {
        let colour = COLOURS[number % COLOURS.len()];
        if series.dots {
            for (x, y) in &series.points {
                _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\" fill-opacity=\"0.8\"/>",
                    self.x(*x),
                    self.y(*y)
                );
            }
        } else {
            let points: Vec<String> =
                series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), self.y(*y))).collect();
            let points = points.join(" ");
            _ = writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>");
        }
        let y = HEIGHT - BOTTOM - 18.0 * (self.series.len() - 1 - number) as f64;
        let x = WIDTH - RIGHT + 14.0;
        _ = writeln!(svg, "<rect x=\"{x}\" y=\"{:.0}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>", y - 10.0);
        text(svg, (x + 18.0, y), "start", &series.name);
    }
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, more: &str) {
    _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{more}/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
}
