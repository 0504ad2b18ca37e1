//! With whom a run still has patience.

use std::collections::HashMap;

use crate::id::TenantId;

/// Questions that a provider is asked at the same time.
const AT_ONCE: usize = 16;
/// Questions without an answer after which a tenant is left alone for the rest of the run: one alone may have been unlucky. So many in a
/// row of all tenants, and the provider is asked one question at a time again.
const UNHEARD: usize = 2;
/// The same in a row after which the run is over: what is wrong is not some tenants' own.
const UNHEARD_OF_ALL: usize = 8;
/// Most tenants that are left alone in one run.
const LEFT_ALONE: usize = 32;

/// One question first, and if it is answered, many at a time: a provider that is ill, that throttles or that refuses the gateway itself
/// is not pressed by everybody who is due. A tenant whose questions alone come to nothing, because of its own directory or how that is
/// set up, stops nobody else's.
#[derive(Default)]
pub(super) struct Patience {
    /// Questions that were not answered since one was: of each tenant, and of all.
    unheard: HashMap<TenantId, usize>,
    in_a_row: usize,
    /// Whether it answers.
    is_well: bool,
}

impl Patience {
    pub(super) fn heard(&mut self, tenant: &TenantId) {
        (self.in_a_row, self.is_well) = (0, true);
        self.unheard.remove(tenant);
    }

    pub(super) fn unheard(&mut self, tenant: TenantId) {
        self.in_a_row += 1;
        self.is_well = self.is_well && self.in_a_row < UNHEARD;
        *self.unheard.entry(tenant).or_default() += 1;
    }

    /// How many questions there may be at a time.
    pub(super) fn at_once(&self) -> usize {
        if self.is_well { AT_ONCE } else { 1 }
    }

    pub(super) fn leaves_alone(&self, tenant: &TenantId) -> bool {
        self.unheard.get(tenant).is_some_and(|unheard| *unheard >= UNHEARD)
    }

    pub(super) fn left_alone(&self) -> Vec<TenantId> {
        self.unheard.keys().filter(|tenant| self.leaves_alone(tenant)).cloned().collect()
    }

    /// Those who were left alone are tried again.
    pub(super) fn forgive(&mut self) {
        self.unheard.clear();
    }

    pub(super) fn is_over(&self) -> bool {
        self.in_a_row >= UNHEARD_OF_ALL || self.left_alone().len() > LEFT_ALONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[test]
    fn many_are_asked_about_once_one_was_heard_and_one_again_when_two_were_not() {
        let (mut patience, one) = (Patience::default(), tenant("one"));
        assert_eq!(patience.at_once(), 1);
        patience.heard(&one);
        assert_eq!(patience.at_once(), AT_ONCE);
        patience.unheard(one.clone());
        assert_eq!(patience.at_once(), AT_ONCE, "one alone may have been unlucky");
        patience.unheard(one.clone());
        assert_eq!(patience.at_once(), 1);
        patience.heard(&one);
        assert_eq!(patience.at_once(), AT_ONCE);
    }

    #[test]
    fn a_tenant_that_is_not_heard_is_left_alone_and_the_run_ends_when_nobody_is() {
        let (mut patience, one) = (Patience::default(), tenant("one"));
        for _ in 0..UNHEARD {
            assert!(!patience.leaves_alone(&one));
            patience.unheard(one.clone());
        }
        assert_eq!(patience.left_alone().len(), 1);
        assert!(patience.leaves_alone(&one));
        patience.heard(&tenant("two"));
        assert!(patience.leaves_alone(&one) && !patience.is_over(), "another's answer says nothing of it");
        patience.forgive();
        assert!(!patience.leaves_alone(&one));
        for other in 0..UNHEARD_OF_ALL {
            assert!(!patience.is_over());
            patience.unheard(tenant(&format!("t{other}")));
        }
        assert!(patience.is_over());
    }
}
