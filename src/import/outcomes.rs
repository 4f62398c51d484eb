//! What a place does: its redirects and fixed answers first, then what keeps clients out, then where requests go.

use super::conditions::{Condition, condition};
use super::context::Context;
use super::forward::{self, Path};
use super::locations::{Spot, guards};
use super::redirects::{Action, NO_BODY, Rewrite, answer, rewrite};
use super::routes::Writer;
use super::scope::Scope;
use super::syntax;
use super::syntax::Directive;
use super::text::Known;

/// What a route does and where that is said.
pub(super) enum Outcome<'d> {
    /// With the blocks that hold there, which may be those of a named location.
    Forward(Box<forward::Forward>, Scope<'d>),
    Act(Action),
    /// It stands behind a rule of access; what it would do, where that is known.
    Guarded {
        why: String,
        behind: Option<(Box<forward::Forward>, Scope<'d>)>,
    },
}

impl<'d> Writer<'_, 'd> {
    pub(super) fn outcome(&self, spot: &Spot<'d>) -> Outcome<'d> {
        let known = self.known(&spot.scope);
        let mut path = Path::of(spot);
        if spot.directive.name == "location" {
            if let Some(internal) = spot.scope.own("internal").first().copied() {
                let why = "weir has no requests of its own to serve; its clients get 404 here, as nginx's do";
                self.context.ledger.left(internal, why);
                let why = syntax::plain(&self.context.origin(internal));
                return Outcome::Act(Action::Closed { status: 404, why });
            }
            for directive in spot.scope.acts().iter().copied() {
                match directive.name.as_str() {
                    "return" => {
                        let action =
                            answer(self.context, directive, &spot.scope, &known, &spot.path);
                        return Outcome::Act(action);
                    }
                    "if" => match condition(directive, &known, self.context) {
                        Condition::Always(inner) => {
                            self.context.ledger.done(directive);
                            return Outcome::Act(answer(
                                self.context,
                                inner,
                                &spot.scope,
                                &known,
                                &spot.path,
                            ));
                        }
                        Condition::Never => self.settle_never(directive),
                        _ => of_condition(self.context, directive),
                    },
                    "rewrite" => match rewrite(self.context, directive, &known) {
                        Some(Rewrite::All(action)) => return Outcome::Act(action),
                        Some(Rewrite::Prefix { from, to, bare }) => {
                            let sent = format!("{}/", to.strip_suffix('/').unwrap_or(&to));
                            let is_whole = !bare && !from.is_empty() && spot.path == from;
                            if let Err(why) = path.rewritten(from, to) {
                                self.context.ledger.left(directive, why);
                            } else if is_whole {
                                let path = &spot.path;
                                let why = format!(
                                    "for `{path}` itself, which the pattern is not for, nginx sends `{path}`, weir `{sent}`"
                                );
                                self.context.ledger.differs(directive, why);
                            }
                        }
                        Some(Rewrite::Paths(..)) => {
                            let why =
                                "weir redirects a whole route; write one of its own for this path";
                            self.context.ledger.left(directive, why);
                        }
                        None => path.spoiled = true,
                    },
                    _ => {}
                }
            }
        }
        self.content(spot, &spot.scope, path, &known)
    }

    /// What answers a request that was let in.
    fn content(
        &self,
        spot: &Spot<'d>,
        scope: &Scope<'d>,
        path: Path,
        known: &Known<'d>,
    ) -> Outcome<'d> {
        let guards = guards(scope);
        let acts =
            |name: &str| name.ends_with("_pass") || name.contains("_by_lua") || name == "try_files";
        let is_empty = !scope.block().iter().any(|inner| acts(&inner.name));
        if let Some(all) = guards.deny_all()
            && spot.directive.name == "location"
            && is_empty
        {
            // As with `return 403`.
            self.context.ledger.differs(all, NO_BODY);
            return Outcome::Act(Action::Respond {
                status: 403,
                body: String::new(),
                content_type: String::new(),
            });
        }
        if !guards.is_empty() {
            let names = guards.named();
            let why = "weir has no such rule of access yet. Routes that it guards answer 403 to everyone, so that nothing is \
                       open that was closed: let a firewall or the application guard them, then open them";
            guards.tell(self.context, why);
            let pass = scope.own("proxy_pass").first().copied();
            let mut behind = None;
            if let Some(pass) = pass {
                let why = "it stands behind a rule of access that weir does not have; its route is closed";
                let forward = forward::forward(self.context, pass, scope, known, path);
                behind = forward
                    .ok()
                    .map(|forward| (Box::new(forward), scope.clone()));
                self.context.ledger.access(pass, why);
            }
            let pass = pass.map(|pass| format!(" Behind it: {}.", syntax::plain(&pass.text())));
            let why = format!(
                "closed, since weir has no {names} yet.{}",
                pass.unwrap_or_default()
            );
            return Outcome::Guarded { why, behind };
        }
        if let Some(pass) = scope.own("proxy_pass").first().copied() {
            let context = self.context;
            return match forward::forward(context, pass, scope, known, path) {
                Ok(forward) => Outcome::Forward(Box::new(forward), scope.clone()),
                Err(why) => {
                    context.ledger.left(pass, why.clone());
                    let why = format!("{}: {why}", context.origin(pass));
                    Outcome::Act(Action::Closed { status: 501, why })
                }
            };
        }
        // No location inherits it.
        if let Some(tried) = scope.own("try_files").first().copied()
            && let Some((location, inner)) = tried
                .args
                .last()
                .and_then(|last| self.named.get(last.as_str()))
            && inner.own("proxy_pass").first().copied().is_some()
            && COME_FIRST.iter().all(|name| inner.own(name).is_empty())
            && spot.directive.id != location.id
        {
            self.context.ledger.agrees(location);
            let why = format!(
                "weir serves no files: every request goes to `{}`; let its application serve the files too, or a file server \
                 that is another upstream",
                location.text()
            );
            self.context.ledger.left(tried, why);
            let known = self.known(inner);
            return self.content(spot, inner, path, &known);
        }
        Outcome::Act(self.without_servers(spot, scope, path.spoiled))
    }

    /// In place of what nginx does without HTTP servers.
    fn without_servers(&self, spot: &Spot<'d>, scope: &Scope<'d>, is_spoiled: bool) -> Action {
        let is_pass = |directive: &&Directive| {
            let name = directive.name.as_str();
            name.ends_with("_pass")
                || name.starts_with("content_by_lua")
                || ["js_content", "perl"].contains(&name)
        };
        let own = scope.block();
        let (status, why) = match own.iter().find(is_pass) {
            Some(directive) => (
                501,
                format!("{}: weir cannot do this", self.context.origin(directive)),
            ),
            None => {
                let files = ["alias", "try_files", "root", "index"]
                    .into_iter()
                    .find_map(|name| scope.find(name));
                let rewrite = scope.own("rewrite").first().filter(|_| is_spoiled);
                let what = match (rewrite, files) {
                    (Some(rewrite), _) => format!(
                        "{}: it could not be translated",
                        self.context.origin(rewrite)
                    ),
                    (None, Some(files)) => {
                        format!("{}: weir serves no files", self.context.origin(files))
                    }
                    (None, None) => "weir serves no files".to_owned(),
                };
                if spot.directive.name == "location" && files.is_none() {
                    let why =
                        "nginx would serve files here, which weir does not; the route answers 404";
                    self.context.ledger.differs(spot.directive, why);
                }
                (404, what)
            }
        };
        Action::Closed {
            status,
            why: syntax::plain(&why),
        }
    }
}

/// What nginx does in a named location before it forwards.
const COME_FIRST: [&str; 4] = ["return", "rewrite", "if", "internal"];

/// Tells of an `if` that weir does not have.
pub(super) fn of_condition(context: &Context<'_>, directive: &Directive) {
    let refuses = |inner: &&Directive| {
        let status = inner.arg(0).unwrap_or_default();
        inner.name == "deny" || inner.name == "return" && status.starts_with('4')
    };
    let refusal = directive.inner().iter().find(refuses);
    let open = match refusal {
        Some(refusal) => format!(" What `{}` refused is let in then.", refusal.text()),
        None => String::new(),
    };
    let why = format!(
        "weir's routes go by host, path, method, header and query; write a route with that condition.{open}"
    );
    match refusal {
        Some(_) => context.ledger.access(directive, why),
        None => context.ledger.left(directive, why),
    }
}
