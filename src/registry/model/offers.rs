//! To which other tenants a server of the gateway's own tenant is offered.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::TenantId;

/// Most tenants that one server names.
pub const MOST_OFFERS: usize = 500;

/// To whom: `"*"`, or a list of tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offers {
    /// Every tenant there is or will be.
    All,
    /// These.
    Only(Vec<TenantId>),
}

impl Default for Offers {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Offers {
    /// Whether it is offered to nobody.
    pub fn is_empty(&self) -> bool {
        self.named().is_some_and(<[TenantId]>::is_empty)
    }

    /// Whether the tenant is meant.
    pub fn includes(&self, tenant: &TenantId) -> bool {
        self.named().is_none_or(|named| named.contains(tenant))
    }

    /// The tenants that are named; none: it is every one.
    pub fn named(&self) -> Option<&[TenantId]> {
        match self {
            Self::All => None,
            Self::Only(tenants) => Some(tenants),
        }
    }
}

impl Serialize for Offers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => "*".serialize(serializer),
            Self::Only(tenants) => tenants.serialize(serializer),
        }
    }
}

impl JsonSchema for Offers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Offers".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tenants = generator.subschema_for::<Vec<TenantId>>();
        json_schema!({ "anyOf": [{ "const": "*" }, tenants] })
    }
}

impl<'de> Deserialize<'de> for Offers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Offers;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"*\" or a list of tenants")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Offers, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                if text == "*" { Ok(Offers::All) } else { Err(wrong()) }
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Offers, A::Error> {
                let mut tenants = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    if text == "*" {
                        return Err(serde::de::Error::custom("write \"*\" alone, without a list"));
                    }
                    tenants.push(TenantId::parse(&text).map_err(serde::de::Error::custom)?);
                }
                tenants.sort_unstable();
                tenants.dedup();
                Ok(Offers::Only(tenants))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_star_or_a_list_of_tenants() {
        let read = |text: &str| serde_json::from_str::<Offers>(text);
        assert_eq!(read("\"*\"").unwrap(), Offers::All);
        let some = read(r#"["other", "acme", "acme"]"#).unwrap();
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"["acme","other"]"#);
        let acme = TenantId::parse("acme").unwrap();
        assert!(some.includes(&acme) && Offers::All.includes(&acme) && !Offers::default().includes(&acme));
        assert!(read("[]").unwrap().is_empty() && !some.is_empty() && !Offers::All.is_empty());
        for wrong in ["\"acme\"", "[\"*\"]", "[\"A\"]", "5", "null"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
