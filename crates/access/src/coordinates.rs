//! How far a gateway is from a client.

/// The earth's mean diameter in kilometres.
const DIAMETER_KM: f64 = 12_742.018;

/// The great-circle distance of two (latitude, longitude) in degrees, in kilometres.
///
/// Infinite if either is unknown, or no place on earth: never NaN, so distances can be put in order.
pub fn distance(one: Option<(f64, f64)>, other: Option<(f64, f64)>) -> f64 {
    let (Some((latitude, longitude)), Some((other_latitude, other_longitude))) = (place(one), place(other)) else {
        return f64::INFINITY;
    };
    // The haversine formula, which keeps its precision for places that are close to each other.
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let parallels = latitude.to_radians().cos() * other_latitude.to_radians().cos();
    let haversine = half(latitude, other_latitude) + parallels * half(longitude, other_longitude);
    DIAMETER_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
}

/// A place on the globe, made ready for many comparisons.
#[derive(Clone, Copy, Debug)]
pub struct Place(Option<[f64; 3]>);

impl Place {
    /// Of (latitude, longitude) in degrees; None, and what is no place on earth, is nowhere.
    pub fn of(coordinates: Option<(f64, f64)>) -> Self {
        Self(place(coordinates).map(|(latitude, longitude)| {
            let (height, radius) = latitude.to_radians().sin_cos();
            let (east, north) = longitude.to_radians().sin_cos();
            [radius * north, radius * east, height]
        }))
    }

    /// How far two places are apart: orders them as `distance` does, and is infinite where either is nowhere. No unit.
    #[inline]
    pub fn apart(&self, other: &Self) -> f64 {
        let (Some(one), Some(other)) = (self.0, other.0) else { return f64::INFINITY };
        one.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum()
    }
}

fn place(coordinates: Option<(f64, f64)>) -> Option<(f64, f64)> {
    coordinates.filter(|(latitude, longitude)| latitude.abs() <= 90.0 && longitude.abs() <= 180.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KYIV: Option<(f64, f64)> = Some((50.4333, 30.5167));
    const SYDNEY: Option<(f64, f64)> = Some((-33.8688, 151.2093));

    #[test]
    fn places_are_in_the_order_of_their_distances() {
        let places =
            [KYIV, SYDNEY, Some((0.0, 179.5)), Some((0.0, -179.5)), Some((90.0, 0.0)), Some((50.4, 30.5)), None];
        let far = [Some((91.0, 0.0)), Some((0.0, f64::NAN)), None];
        for one in places {
            let apart = |other| Place::of(one).apart(&Place::of(other));
            for (nearer, other) in places.iter().flat_map(|nearer| places.iter().map(move |other| (*nearer, *other))) {
                if distance(one, nearer) < distance(one, other) {
                    assert!(apart(nearer) < apart(other), "{one:?}: {nearer:?} is nearer than {other:?}");
                }
            }
            assert!(far.iter().all(|nowhere| apart(*nowhere) == f64::INFINITY));
        }
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        for (one, other, kilometres) in [
            (KYIV, KYIV, 0.0),
            (KYIV, SYDNEY, 14_943.8),
            (Some((0.0, 0.0)), Some((0.0, 90.0)), 10_007.6),
            (Some((0.0, 0.0)), Some((0.0, 180.0)), 20_015.1),
            (Some((90.0, 12.0)), Some((-90.0, -80.0)), 20_015.1),
            // Over the date line, not around the world.
            (Some((0.0, 179.5)), Some((0.0, -179.5)), 111.2),
        ] {
            for found in [distance(one, other), distance(other, one)] {
                assert!((found - kilometres).abs() < 1.0, "{one:?} to {other:?}: {found} instead of {kilometres}");
            }
        }
    }

    #[test]
    fn what_is_unknown_is_farthest() {
        for unknown in [
            None,
            Some((f64::NAN, 0.0)),
            Some((0.0, f64::NAN)),
            Some((f64::INFINITY, 0.0)),
            Some((90.1, 0.0)),
            Some((0.0, -180.1)),
        ] {
            assert_eq!(distance(unknown, KYIV), f64::INFINITY, "{unknown:?}");
            assert_eq!(distance(KYIV, unknown), f64::INFINITY, "{unknown:?}");
        }
    }
}
