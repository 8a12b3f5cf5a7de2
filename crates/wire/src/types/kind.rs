//! Which kind of value a Postgres type is.

use super::Decimal;

/// How a column's value travels. Types that share a wire form and a way of being read share a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// boolean.
    Bool,
    /// int, from two bytes.
    Int2,
    /// int, from four bytes.
    Int4,
    /// long.
    Int8,
    /// float.
    Float4,
    /// double.
    Float8,
    /// string, exact: as many digits as Postgres prints, NaN and Infinity included.
    Numeric,
    /// bytes with the logical type `decimal`: numeric, by choice. No OID has this kind, and no key column.
    Decimal(Decimal),
    /// string with the logical type `uuid`.
    Uuid,
    /// long, `timestamp-micros`.
    Timestamptz,
    /// long, `local-timestamp-micros`.
    Timestamp,
    /// int, `date`.
    Date,
    /// long, `time-micros`.
    Time,
    /// bytes.
    Bytea,
    /// string, of types whose binary form is their text: text, varchar, bpchar, name, citext, enums, json.
    Text,
    /// string; the binary form is a version byte and the text.
    Jsonb,
    /// string; inet and cidr.
    Inet,
    /// string; macaddr.
    Macaddr,
    /// string: Postgres' text of any other type. Its binary form is unknown and refused.
    String,
    /// array of nullable elements, or the literal where Avro has no such array.
    Array(Element),
}

/// The kind of an array's elements: any but an array, since Postgres has no arrays of arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Element(&'static ValueKind);

/// What an encode plan knows of a column's type. Pinned with the type's OID: two bridges must tell the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// How the value travels; for a domain, its base type's kind.
    pub kind: ValueKind,
    /// `format_type()`'s output, modifier included, as first seen.
    pub pg_type: String,
    /// For a domain, `format_type()` of its base type.
    pub pg_base: Option<String>,
}

impl Element {
    /// The element's kind.
    pub const fn kind(self) -> ValueKind {
        *self.0
    }
}

impl ValueKind {
    /// The kind of an array of this; a string for elements that have no array form of their own.
    ///
    /// For arrays of enums and extension types, whose OIDs differ between databases. Arrays of domains are not made
    /// with this: they are [`ValueKind::String`].
    pub fn array(self) -> Self {
        ELEMENTS.iter().find(|kind| **kind == self).map_or(Self::String, |kind| Self::Array(Element(kind)))
    }

    /// The kind of a type whose base (the type itself, or what a domain is made of) has this OID. `texts`: it is an enum or
    /// citext; `element_texts`: the same of its elements, of a true array.
    ///
    /// Built-in types by their OID; enums and citext and arrays of them as texts; everything else, arrays of domains
    /// included, as the literal that Postgres prints.
    pub fn of_type(base_oid: u32, texts: bool, element_texts: Option<bool>) -> Self {
        match (builtin(base_oid), texts, element_texts) {
            (Some(kind), _, _) => kind,
            (None, true, _) => Self::Text,
            (None, false, Some(true)) => Self::Text.array(),
            (None, false, Some(false) | None) => Self::String,
        }
    }

    /// Whether this is an array.
    pub const fn is_array(self) -> bool {
        matches!(self, Self::Array(_))
    }

    /// Whether a column of this kind can be read when the stream was started with `binary 'true'`.
    pub const fn reads_binary(self) -> bool {
        !matches!(self, Self::String)
    }
}

static ELEMENTS: [ValueKind; 17] = [
    ValueKind::Bool,
    ValueKind::Int2,
    ValueKind::Int4,
    ValueKind::Int8,
    ValueKind::Float4,
    ValueKind::Float8,
    ValueKind::Numeric,
    ValueKind::Uuid,
    ValueKind::Timestamptz,
    ValueKind::Timestamp,
    ValueKind::Date,
    ValueKind::Time,
    ValueKind::Bytea,
    ValueKind::Text,
    ValueKind::Jsonb,
    ValueKind::Inet,
    ValueKind::Macaddr,
];

/// The kind of a built-in type or array type; `None` for every OID that is not listed, which travels as
/// [`ValueKind::String`] unless the caller knows better (domains, enums, citext).
///
/// Built-in OIDs never change their meaning (Postgres' `pg_type.dat`).
pub fn builtin(oid: u32) -> Option<ValueKind> {
    scalar(oid).or_else(|| element_oid(oid).and_then(scalar).map(ValueKind::array))
}

fn scalar(oid: u32) -> Option<ValueKind> {
    Some(match oid {
        16 => ValueKind::Bool,
        17 => ValueKind::Bytea,
        19 | 25 | 114 | 1042 | 1043 => ValueKind::Text,
        20 => ValueKind::Int8,
        21 => ValueKind::Int2,
        23 => ValueKind::Int4,
        650 | 869 => ValueKind::Inet,
        700 => ValueKind::Float4,
        701 => ValueKind::Float8,
        829 => ValueKind::Macaddr,
        1082 => ValueKind::Date,
        1083 => ValueKind::Time,
        1114 => ValueKind::Timestamp,
        1184 => ValueKind::Timestamptz,
        1700 => ValueKind::Numeric,
        2950 => ValueKind::Uuid,
        3802 => ValueKind::Jsonb,
        _ => return None,
    })
}

fn element_oid(array_oid: u32) -> Option<u32> {
    Some(match array_oid {
        199 => 114,
        651 => 650,
        1000 => 16,
        1001 => 17,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1231 => 1700,
        2951 => 2950,
        3807 => 3802,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_oids_have_their_kind() {
        for (oid, kind) in [
            (16, ValueKind::Bool),
            (20, ValueKind::Int8),
            (1043, ValueKind::Text),
            (3802, ValueKind::Jsonb),
            (3807, ValueKind::Jsonb.array()),
            (1231, ValueKind::Numeric.array()),
        ] {
            assert_eq!(builtin(oid), Some(kind), "{oid}");
        }
    }

    #[test]
    fn unlisted_types_have_none() {
        // "char", interval, interval[], timetz, money, int4range, a user's type.
        for oid in [18, 1186, 1187, 1266, 790, 3904, 16_384] {
            assert_eq!(builtin(oid), None, "{oid}");
        }
    }

    #[test]
    fn every_listed_scalar_has_an_array_form() {
        for kind in ELEMENTS {
            match kind.array() {
                ValueKind::Array(element) => assert_eq!(element.kind(), kind),
                other => panic!("{kind:?} became {other:?}"),
            }
        }
        assert_eq!(ValueKind::String.array(), ValueKind::String);
        assert_eq!(ValueKind::Int4.array().array(), ValueKind::String);
    }
}
