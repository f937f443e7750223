//! Scaling curves as CSV and SVG.

use plotters::prelude::*;

use super::Curve;

pub(super) fn csv(curves: &[Curve]) -> String {
    let mut text = "axis,fixed,size,ms,exponent\n".to_string();
    for c in curves {
        for (x, ms) in &c.points {
            text.push_str(&format!("{},{},{x},{ms:.3},{:.3}\n", c.axis, c.fixed, c.exponent()));
        }
    }
    text
}

/// Time over size, both relative to the smallest, on logarithmic axes: linear growth is the
/// diagonal.
pub(super) fn svg(curves: &[Curve]) -> Result<String, String> {
    let mut text = String::new();
    draw(curves, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(curves: &[Curve], text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, (640, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("SIGReg, forward and backward", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d((0.9f64..12.0).log_scale(), (0.9f64..12.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("size, relative to the smallest")
        .y_desc("time, relative to the smallest")
        .draw()?;
    chart.draw_series(LineSeries::new([(1.0, 1.0), (10.0, 10.0)], BLACK.mix(0.3)))?;
    for (curve, colour) in curves.iter().zip([RED, BLUE, GREEN]) {
        let Some(&(x0, y0)) = curve.points.first() else { continue };
        let points: Vec<(f64, f64)> =
            curve.points.iter().map(|&(x, y)| (x as f64 / x0 as f64, y / y0)).collect();
        let label =
            format!("{} from {x0} ({}): exponent {:.2}", curve.axis, curve.fixed, curve.exponent());
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}
