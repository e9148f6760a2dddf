use std::cmp::Ordering;

/// The NIST curves whose keys we accept, smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(super) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The number of points, big-endian: a signature's two numbers lie between 1 and it.
    pub(super) fn order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_ORDER,
            Self::P384 => &P384_ORDER,
            Self::P521 => &P521_ORDER,
        }
    }

    /// `scalar` at the curve's full width, or none where it is not between 1 and the order.
    pub(super) fn scalar(self, scalar: &[u8]) -> Option<Vec<u8>> {
        let order = self.order();
        let start = scalar.iter().position(|byte| *byte != 0)?;
        let scalar = &scalar[start..];
        if scalar.len() > order.len() {
            return None;
        }
        let mut padded = vec![0; order.len()];
        padded[order.len() - scalar.len()..].copy_from_slice(scalar);
        (padded.as_slice().cmp(order) == Ordering::Less).then_some(padded)
    }

    /// The smaller of `s` and order − `s`: whoever sees a signature can turn one into the other, and
    /// both verify.
    pub(super) fn low(self, s: Vec<u8>) -> Vec<u8> {
        let mut negated = vec![0; s.len()];
        let mut borrow = 0;
        for (at, (n, s)) in self.order().iter().zip(&s).enumerate().rev() {
            let difference = i16::from(*n) - i16::from(*s) - borrow;
            borrow = i16::from(difference < 0);
            negated[at] = difference.rem_euclid(256).to_le_bytes()[0];
        }
        s.min(negated)
    }
}

const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

const P384_ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

const P521_ORDER: [u8; 66] = [
    0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0x51, 0x86, 0x87, 0x83,
    0xbf, 0x2f, 0x96, 0x6b, 0x7f, 0xcc, 0x01, 0x48, 0xf7, 0x09, 0xa5, 0xd0, 0x3b, 0xb5, 0xc9, 0xb8, 0x89, 0x9c, 0x47,
    0xae, 0xbb, 0x6f, 0xb7, 0x1e, 0x91, 0x38, 0x64, 0x09,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_lie_between_one_and_the_order() {
        for curve in Curve::ALL {
            let order = curve.order();
            let mut last = order.to_vec();
            *last.last_mut().unwrap() -= 1;
            let one = [vec![0; order.len() - 1], vec![1]].concat();
            assert_eq!(curve.scalar(&[1]), Some(one.clone()));
            assert_eq!(curve.scalar(&last), Some(last.clone()));
            for outside in [&[][..], &[0], &[0; 80], order, &[&[1], order].concat()] {
                assert_eq!(curve.scalar(outside), None, "{curve:?}");
            }
            assert_eq!(curve.low(last), one, "order minus (order minus 1) is 1");
            assert_eq!(curve.low(one.clone()), one);
        }
    }
}
