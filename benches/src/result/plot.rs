use std::path::Path;

use plotters::prelude::*;

use super::Results;
use crate::connection::Error;

const WIDTH: u32 = 960;
const BAR_HEIGHT: u32 = 14;
/// The space above the bars of a row, where its name is.
const ROW_HEIGHT: u32 = 24;
const MARGIN: u32 = 40;
/// Where the bars begin: the names of the systems are to the left.
const LEFT: i32 = 150;
/// What the bars leave free at their right, for their numbers.
const RIGHT: i32 = 190;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x9e, 0x9e, 0x9e),
    RGBColor(0xc4, 0xc4, 0xc4),
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0xe0, 0x7b, 0x26),
    RGBColor(0x7a, 0x4f, 0x9e),
    RGBColor(0x3a, 0x9a, 0x5b),
];

/// Draws the server's CPU time per operation, a bar for each system in each row; the longest bar of a row is full
/// width, as rows differ by orders of magnitude.
pub(crate) fn plot(results: &Results, path: &Path) -> Result<(), Error> {
    let systems = results.systems();
    let bars = |row: &str| {
        let of =
            |system: &&str| Some((system.to_string(), results.spread(row, system, |m| m.server_cpu_us)?));
        systems.iter().filter_map(of).collect::<Vec<_>>()
    };
    let rows: Vec<_> =
        results.rows().into_iter().map(|row| (row, bars(row))).filter(|(_, bars)| !bars.is_empty()).collect();
    let height =
        MARGIN + rows.iter().map(|(_, bars)| ROW_HEIGHT + BAR_HEIGHT * bars.len() as u32).sum::<u32>();
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let title = "Server CPU, µs per operation: median of the rounds (least–most). Shorter is better.";
    area.draw(&Text::new(title, (8, 8), ("sans-serif", 15)))?;
    let mut y = MARGIN as i32;
    for (row, bars) in rows {
        area.draw(&Text::new(row, (8, y), ("sans-serif", 13).into_font().style(FontStyle::Bold)))?;
        y += 18;
        let longest = bars.iter().map(|(_, spread)| spread.median).fold(f64::MIN_POSITIVE, f64::max);
        for (system, spread) in &bars {
            let colour = systems.iter().position(|name| name == system).unwrap_or(0) % COLOURS.len();
            let colour = COLOURS.get(colour).copied().unwrap_or(BLACK);
            let length = f64::from(WIDTH as i32 - LEFT - RIGHT) * spread.median / longest;
            let end = LEFT + (length as i32).max(1);
            area.draw(&Rectangle::new([(LEFT, y), (end, y + BAR_HEIGHT as i32 - 3)], colour.filled()))?;
            area.draw(&Text::new(system.clone(), (16, y), ("sans-serif", 11)))?;
            let label = format!("{:.1} ({:.1}–{:.1})", spread.median, spread.min, spread.max);
            area.draw(&Text::new(label, (end + 6, y), ("sans-serif", 11)))?;
            y += BAR_HEIGHT as i32;
        }
        y += ROW_HEIGHT as i32 - 18;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::results;
    use super::*;

    #[test]
    fn every_system_has_a_bar_with_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        plot(&results(&[("orlop", &[(10, 12.5)]), ("etcd", &[(10, 70.0)])]), &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for part in ["<svg", "create/512b-300c", "orlop", "12.5 (12.5–12.5)", "etcd", "70.0"] {
            assert!(text.contains(part), "{part} is not in the plot");
        }
    }
}
