//! What a closed route would do: its comment says so, for whoever opens it again.

use std::collections::HashMap;
use std::rc::Rc;

use super::context::{Context, Made};
use super::syntax;
use super::toml::{Table, Toml};

/// A route to servers that stands behind a rule of access.
pub(super) struct Behind {
    /// Without the keys that say which requests it is for, and without `upstream`.
    pub(super) table: Table,
    pub(super) upstream: Rc<Hidden>,
}

/// The upstream of such routes.
pub(super) struct Hidden {
    /// What it does, by which it is known.
    essence: String,
    table: Table,
    /// What it may be called.
    base: String,
}

impl Hidden {
    /// The one that is this table, for all routes that lead there.
    pub(super) fn of(context: &Context<'_>, table: Table, base: String) -> Rc<Self> {
        let essence = table.written_essence();
        let mut known = context.hidden.borrow_mut();
        let new = || {
            context.budget().write(table.size());
            Rc::new(Self {
                essence: essence.clone(),
                table,
                base,
            })
        };
        known.entry(essence.clone()).or_insert_with(new).clone()
    }
}

impl Behind {
    /// The lines to put in the place of `respond` in the route of that name. `named` has the upstreams that are in comments only.
    pub(super) fn comments(
        self,
        context: &Context<'_>,
        route: &Made,
        named: &mut HashMap<String, String>,
    ) -> Vec<String> {
        let hidden = &self.upstream;
        let known = context.by_essence.borrow().get(&hidden.essence).cloned();
        let known = known.or_else(|| named.get(&hidden.essence).cloned());
        let is_new = known.is_none();
        let upstream = known.unwrap_or_else(|| {
            let name = context
                .upstream_names
                .borrow_mut()
                .free(&hidden.base, "app");
            named.insert(hidden.essence.clone(), name.clone());
            name
        });
        let mut whole = Table::default();
        whole.set("upstream", Toml::from(upstream.as_str()));
        whole.keys.extend(self.table.keys);
        whole.tables.extend(self.table.tables);
        let mut out = String::new();
        whole.write(&mut out, &format!("route.{}", route.name), &[]);
        if is_new {
            let heading = format!("upstream.{upstream}");
            hidden.table.write(&mut out, &heading, &[]);
        }
        // The heading of the route is there already.
        let lines = out.lines().filter(|line| !line.is_empty()).skip(1);
        let lines = lines.map(|line| format!("  {}", syntax::plain(line)));
        let place = match route.table.has("response_headers") {
            true => "`respond` and `response_headers`",
            false => "`respond`",
        };
        let first = format!("to put in place of {place} when something else keeps clients out:");
        std::iter::once(first).chain(lines).collect()
    }
}
