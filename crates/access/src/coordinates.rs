//! PROVISIONAL until a1 is merged.
/// Kilometres; None: unknown.
pub fn distance(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> f64 {
    let (Some(a), Some(b)) = (a, b) else { return f64::INFINITY };
    let (la, lb) = (a.0.to_radians(), b.0.to_radians());
    let h = ((lb - la) / 2.0).sin().powi(2) + la.cos() * lb.cos() * ((b.1 - a.1).to_radians() / 2.0).sin().powi(2);
    12742.0 * h.sqrt().min(1.0).asin()
}
