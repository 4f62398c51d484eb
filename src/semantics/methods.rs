//! Sets of methods that a request can be held against quickly.

use http::Method;

/// A set of methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Methods {
    /// One bit for each of RFC 9110 §9 and RFC 5789, by [`place`].
    standard: u16,
    others: Vec<Method>,
}

impl Methods {
    pub(crate) fn contains(&self, method: &Method) -> bool {
        match place(method) {
            Some(place) => self.standard & 1 << place != 0,
            None => self.others.contains(method),
        }
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<T: IntoIterator<Item = Method>>(methods: T) -> Self {
        let mut set = Self::default();
        for method in methods {
            match place(&method) {
                Some(place) => set.standard |= 1 << place,
                None => set.others.push(method),
            }
        }
        set
    }
}

fn place(method: &Method) -> Option<u8> {
    Some(match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let odd = Method::from_bytes(b"PURGE").unwrap();
        let set: Methods = [Method::GET, Method::PATCH, odd.clone()]
            .into_iter()
            .collect();
        for method in [Method::GET, Method::PATCH, odd] {
            assert!(set.contains(&method), "{method}");
        }
        for method in [
            Method::POST,
            Method::HEAD,
            Method::from_bytes(b"BAN").unwrap(),
        ] {
            assert!(!set.contains(&method), "{method}");
        }
        assert!(!Methods::default().contains(&Method::GET));
    }
}
