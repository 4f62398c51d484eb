//! The encoded forms of a stored body: made once, sent many times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::semantics::coding::Coding;

/// What is kept beside a body, for each coding.
#[derive(Debug, Default)]
pub(crate) struct Encodings([Place; Coding::COUNT]);

#[derive(Debug, Default)]
struct Place {
    form: ArcSwapOption<Form>,
    /// Somebody is making the best form there is to be.
    claimed: AtomicBool,
}

/// An encoded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Encoded(Bytes),
    /// It would be no smaller.
    Useless,
}

impl Form {
    /// `encoded` if it is worth having.
    pub(crate) fn of(encoded: Vec<u8>, plain: &[u8]) -> Self {
        if encoded.len() < plain.len() {
            // Without what the encoder has set aside for more.
            Self::Encoded(encoded.into_boxed_slice().into())
        } else {
            Self::Useless
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Useless => 0,
        }
    }
}

impl Encodings {
    fn place(&self, coding: Coding) -> Option<&Place> {
        self.0.get(coding as usize)
    }

    /// The best form made so far.
    pub(crate) fn form(&self, coding: Coding) -> Option<Form> {
        let form = self.place(coding)?.form.load();
        form.as_ref().map(|form| Form::clone(form))
    }

    /// Puts a form in the place of a larger one.
    pub(crate) fn set(&self, coding: Coding, form: Form) {
        let Some(place) = self.place(coding) else {
            return;
        };
        let before = place.form.load();
        let is_better = match (before.as_deref(), &form) {
            (Some(Form::Encoded(before)), Form::Encoded(bytes)) => bytes.len() < before.len(),
            (Some(Form::Encoded(_)), Form::Useless) => false,
            (Some(Form::Useless) | None, _) => true,
        };
        if is_better {
            place.form.store(Some(Arc::new(form)));
        }
    }

    /// Whether the caller is the one to have the best form made: true once.
    pub(crate) fn claim(&self, coding: Coding) -> bool {
        self.place(coding)
            .is_some_and(|place| !place.claimed.swap(true, Ordering::Relaxed))
    }

    /// Whoever claimed it could not.
    pub(crate) fn give_up(&self, coding: Coding) {
        if let Some(place) = self.place(coding) {
            place.claimed.store(false, Ordering::Relaxed);
        }
    }

    /// How many forms there are that are sent.
    pub(super) fn count(&self) -> usize {
        let forms = self.0.iter().map(|place| place.form.load());
        forms
            .filter(|form| matches!(form.as_deref(), Some(Form::Encoded(_))))
            .count()
    }

    /// Bytes of all forms.
    pub(super) fn size(&self) -> usize {
        let forms = self.0.iter().map(|place| place.form.load());
        forms
            .map(|form| form.as_ref().map_or(0, |form| form.size()))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_claimed_once_and_again_only_after_it_was_given_up() {
        let encodings = Encodings::default();
        assert!(encodings.claim(Coding::Br));
        assert!(!encodings.claim(Coding::Br));
        assert!(encodings.claim(Coding::Gzip));
        encodings.give_up(Coding::Br);
        assert!(encodings.claim(Coding::Br));
    }

    #[test]
    fn the_smallest_form_counts_and_one_that_is_no_smaller_than_the_body_is_none() {
        let encodings = Encodings::default();
        assert_eq!(encodings.form(Coding::Br), None);
        encodings.set(Coding::Br, Form::of(vec![0; 8], &[0; 9]));
        encodings.set(Coding::Gzip, Form::of(vec![0; 9], &[0; 9]));
        assert_eq!((encodings.size(), encodings.count()), (8, 1));
        encodings.set(Coding::Br, Form::of(vec![0; 5], &[0; 9]));
        assert_eq!(encodings.size(), 5);
        encodings.set(Coding::Br, Form::of(vec![0; 6], &[0; 9]));
        encodings.set(Coding::Br, Form::Useless);
        assert_eq!(
            encodings.form(Coding::Br),
            Some(Form::Encoded(Bytes::from_static(&[0; 5])))
        );
        assert_eq!(encodings.form(Coding::Gzip), Some(Form::Useless));
        assert_eq!(encodings.form(Coding::Zstd), None);
    }
}
