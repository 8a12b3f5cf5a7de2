//! Arrays in Postgres' binary format (`arrayfuncs.c`): the same bytes as from the text format.
//!
//! The form: number of dimensions, whether there are NULLs, the element type's OID; length and lower bound of each
//! dimension; then the elements in row-major order, each behind its length, -1 for NULL.

use super::{Element, Place, Refusal, ValueKind, binary, render, text};
use crate::avro::put_length;

/// Postgres' own limit (`MAXDIM`).
const DIMENSIONS_MAX: i32 = 6;

struct Dimension {
    length: usize,
    lower_bound: i32,
}

struct Array<'a> {
    dimensions: Vec<Dimension>,
    elements: &'a [u8],
    count: usize,
}

/// Appends an array that is not NULL, with its union branch.
pub(super) fn put(element: Element, place: Place, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let array = Array::read(bytes)?;
    if array.is_plain() {
        place.open_array(out);
        return array.put_items(element.kind(), out);
    }
    let mut literal = Vec::new();
    array.put_literal(element.kind(), &mut literal)?;
    place.open_literal(out);
    text::put_string(&literal, out)
}

/// Appends the text Postgres prints, of whatever shape the array is.
pub(super) fn put_literal(element: Element, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    Array::read(bytes)?.put_literal(element.kind(), out)
}

impl<'a> Array<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut rest = bytes;
        let dimension_count = take_i32(&mut rest)?;
        let nulls = take_i32(&mut rest)?;
        let _element_oid = take_i32(&mut rest)?;
        if !(0..=DIMENSIONS_MAX).contains(&dimension_count) || !(0..=1).contains(&nulls) {
            return Err(Refusal::Malformed);
        }
        let mut dimensions = Vec::new();
        let mut count = usize::from(dimension_count > 0);
        for _ in 0..dimension_count {
            let length = usize::try_from(take_i32(&mut rest)?).map_err(|_| Refusal::Malformed)?;
            let lower_bound = take_i32(&mut rest)?;
            count = count.checked_mul(length).ok_or(Refusal::Malformed)?;
            dimensions.push(Dimension { length, lower_bound });
        }
        // An empty array has no dimensions, and every element takes its length's four bytes.
        if (dimension_count > 0 && count == 0) || count > rest.len() / 4 {
            return Err(Refusal::Malformed);
        }
        let array = Self { dimensions, elements: rest, count };
        array.check_elements()?;
        Ok(array)
    }

    fn check_elements(&self) -> Result<(), Refusal> {
        let mut rest = self.elements;
        for _ in 0..self.count {
            take_element(&mut rest)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(Refusal::Malformed) }
    }

    /// Whether Avro has such an array: one dimension (or none, when empty) that starts at 1.
    fn is_plain(&self) -> bool {
        match self.dimensions.as_slice() {
            [] => true,
            [only] => only.lower_bound == 1,
            _ => false,
        }
    }

    fn put_items(&self, kind: ValueKind, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.count > 0 {
            put_length(out, self.count);
        }
        let mut rest = self.elements;
        for _ in 0..self.count {
            match take_element(&mut rest)? {
                None => out.push(0),
                Some(value) => binary::put(kind, Place::Nullable, value, out)?,
            }
        }
        out.push(0);
        Ok(())
    }

    fn put_literal(&self, kind: ValueKind, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.count == 0 {
            out.extend_from_slice(b"{}");
            return Ok(());
        }
        self.put_bounds(out);
        let mut rest = self.elements;
        let mut value_text = Vec::new();
        for index in 0..self.count {
            if index > 0 {
                out.push(b',');
            }
            out.extend(std::iter::repeat_n(b'{', self.dimensions_at_edge(index)));
            match take_element(&mut rest)? {
                None => out.extend_from_slice(b"NULL"),
                Some(value) => {
                    value_text.clear();
                    render::put(kind, value, &mut value_text)?;
                    put_quoted(&value_text, out);
                }
            }
            out.extend(std::iter::repeat_n(b'}', self.dimensions_at_edge(index + 1)));
        }
        Ok(())
    }

    /// `[lower:upper]…=`, printed for all dimensions if any of them does not start at 1.
    fn put_bounds(&self, out: &mut Vec<u8>) {
        if self.dimensions.iter().all(|dimension| dimension.lower_bound == 1) {
            return;
        }
        for Dimension { length, lower_bound } in &self.dimensions {
            let upper_bound = i64::from(*lower_bound) + *length as i64 - 1;
            render::put_display(out, format_args!("[{lower_bound}:{upper_bound}]"));
        }
        out.push(b'=');
    }

    /// How many dimensions begin at element `index`, or end before it.
    fn dimensions_at_edge(&self, index: usize) -> usize {
        let mut stride = 1;
        let strides = self.dimensions.iter().rev().map(|dimension| {
            stride *= dimension.length;
            stride
        });
        strides.take_while(|stride| index.is_multiple_of(*stride)).count()
    }
}

/// Quotes what the array parser would otherwise read as something else (`array_out`).
fn put_quoted(value: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t'..=b'\r');
    if !value.is_empty() && !value.eq_ignore_ascii_case(b"NULL") && !value.iter().any(special) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn take_i32(rest: &mut &[u8]) -> Result<i32, Refusal> {
    let (bytes, behind) = rest.split_first_chunk::<4>().ok_or(Refusal::Malformed)?;
    *rest = behind;
    Ok(i32::from_be_bytes(*bytes))
}

fn take_element<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
    let length = take_i32(rest)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Refusal::Malformed)?;
    let (value, behind) = rest.split_at_checked(length).ok_or(Refusal::Malformed)?;
    *rest = behind;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An array of text as `array_send` writes it.
    fn array(dimensions: &[(i32, i32)], items: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [dimensions.len() as i32, i32::from(items.contains(&None)), 25] {
            bytes.extend(number.to_be_bytes());
        }
        for (length, lower_bound) in dimensions {
            bytes.extend(length.to_be_bytes());
            bytes.extend(lower_bound.to_be_bytes());
        }
        for item in items {
            bytes.extend(item.map_or(-1, |item| item.len() as i32).to_be_bytes());
            bytes.extend(item.unwrap_or_default().bytes());
        }
        bytes
    }

    #[test]
    fn binary_gives_the_bytes_of_text() {
        let items = [Some("a"), None, Some("NULL"), Some(""), Some("b \"c\\"), Some("null")];
        for (dimensions, items, literal) in [
            ([].as_slice(), [].as_slice(), "{}"),
            (&[(6, 1)], &items, r#"{a,NULL,"NULL","","b \"c\\","null"}"#),
            (&[(6, 0)], &items, r#"[0:5]={a,NULL,"NULL","","b \"c\\","null"}"#),
            (&[(2, 1), (3, 1)], &items, r#"{{a,NULL,"NULL"},{"","b \"c\\","null"}}"#),
            (&[(3, 1), (2, -1)], &items, r#"[1:3][-1:0]={{a,NULL},{"NULL",""},{"b \"c\\","null"}}"#),
            (&[(1, 1), (2, 1), (3, 1)], &items, r#"{{{a,NULL,"NULL"},{"","b \"c\\","null"}}}"#),
        ] {
            let bytes = array(dimensions, items);
            let kind = ValueKind::Text.array();
            let mut from_text = Vec::new();
            text::put(kind, Place::Nullable, literal.as_bytes(), &mut from_text).unwrap();
            let mut from_binary = Vec::new();
            binary::put(kind, Place::Nullable, &bytes, &mut from_binary).unwrap();
            assert_eq!(from_binary, from_text, "{literal}");
            let mut printed = Vec::new();
            render::put(kind, &bytes, &mut printed).unwrap();
            assert_eq!(String::from_utf8(printed).unwrap(), literal);
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = array(&[(2, 1), (2, 1)], &[Some("a"), None, Some("b"), Some("")]);
        let kind = ValueKind::Text.array();
        for end in 0..bytes.len() {
            let written = binary::put(kind, Place::Bare, &bytes[..end], &mut Vec::new());
            assert_eq!(written, Err(Refusal::Malformed), "{end}");
        }
    }

    #[test]
    fn impossible_headers_are_refused() {
        let huge = i32::MAX;
        for bytes in [
            array(&[(0, 1)], &[]),
            array(&[(-1, 1)], &[Some("a")]),
            array(&[(2, 1)], &[Some("a")]),
            array(&[(1, 1)], &[Some("a"), Some("b")]),
            array(&[(huge, 1), (huge, 1), (huge, 1)], &[Some("a")]),
            array(&[(1, 1); 7], &[Some("a")]),
        ] {
            let written = binary::put(ValueKind::Text.array(), Place::Bare, &bytes, &mut Vec::new());
            assert_eq!(written, Err(Refusal::Malformed), "{bytes:?}");
        }
    }
}
