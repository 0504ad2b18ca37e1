//! What many callers have in common, such as their tenant or the name of their client, kept once instead of once for each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Most texts that are kept; then they are forgotten, and who has them keeps them.
const MOST: usize = 4096;

/// Values by their text. `T` is something that is cheap to clone, such as an `Arc`.
#[derive(Debug)]
pub(super) struct Shared<T>(Mutex<HashMap<Box<str>, T, ahash::RandomState>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Shared<T> {
    /// The value of `text`; made, if it is not here yet.
    pub(super) fn get<E>(&self, text: &str, make: impl FnOnce(&str) -> Result<T, E>) -> Result<T, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = kept.get(text) {
            return Ok(value.clone());
        }
        let value = make(text)?;
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(text.into(), value.clone());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn equal_texts_are_one_and_their_number_is_bounded() {
        let shared = Shared::<Arc<str>>::default();
        let of = |text: &str| shared.get(text, |text| Ok::<_, Infallible>(text.into())).unwrap();
        let first = of("one");
        assert!(Arc::ptr_eq(&first, &of("one")));
        for number in 0..MOST {
            of(&number.to_string());
        }
        assert!(shared.0.lock().unwrap().len() <= MOST);
        assert_eq!(of("one"), first);
        assert!(shared.get("bad", |_| Err("refused")).is_err());
    }
}
