//! What all parts of a simulation share: its time, its servers, and the stories of the requests that are under way.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::task;
use tokio::time::Instant;

use super::phases::{Life, Phase};
use super::random::Random;
use super::servers::Host;
use super::setting::Setting;
use super::story::{Attempt, Fate, Set, Story};
use crate::state::Upstream;
use crate::telemetry::worker::UpstreamShard;
use crate::upstream::server::Server;

/// A simulation that runs.
pub(super) struct World {
    pub(super) setting: Setting,
    start: Instant,
    pub(super) random: Random,
    pub(super) hosts: Vec<Rc<Host>>,
    pub(super) lives: Vec<Life>,
    /// weir's view of the hosts, in their order.
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) backups: Set,
    pub(super) upstream: Arc<Upstream>,
    shard: Arc<UpstreamShard>,
    stories: RefCell<HashMap<usize, Story>>,
    /// Which request a task of a client connection is working on.
    tasks: RefCell<HashMap<task::Id, usize>>,
    next: Cell<usize>,
    /// When requests were sent once more.
    retries: RefCell<VecDeque<Duration>>,
}

impl World {
    pub(super) fn new(
        setting: Setting,
        lives: Vec<Life>,
        servers: Vec<Arc<Server>>,
        upstream: Arc<Upstream>,
        shard: Arc<UpstreamShard>,
    ) -> Rc<Self> {
        let backup = |server: &Arc<Server>| {
            let mut members = upstream.servers.iter();
            members.any(|member| member.backup && Arc::ptr_eq(&member.server, server))
        };
        Rc::new(Self {
            random: Random::new(setting.seed, 3),
            setting,
            start: Instant::now(),
            hosts: (0..servers.len())
                .map(|number| Rc::new(Host::new(number)))
                .collect(),
            lives,
            backups: set_of(&servers, backup),
            servers,
            upstream,
            shard,
            stories: RefCell::default(),
            tasks: RefCell::default(),
            next: Cell::new(0),
            retries: RefCell::default(),
        })
    }

    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same for the runtime.
    pub(super) fn instant(&self, time: Duration) -> Instant {
        self.start + time
    }

    /// What a host goes through now.
    pub(super) fn phase(&self, host: usize) -> Phase {
        *self.lives[host].at(self.now())
    }

    /// A request is about to be sent.
    pub(super) fn begin(&self, method: Method) -> usize {
        let number = self.next.replace(self.next.get() + 1);
        let story = Story {
            number,
            method,
            began: self.now(),
            attempts: Vec::new(),
            refusals: self.budget_refusals(),
            accepting: self.accepting(),
        };
        self.stories.borrow_mut().insert(number, story);
        number
    }

    /// weir has the request; what this task does from now on is for it.
    pub(super) fn reached_weir(&self, number: usize) {
        self.tasks.borrow_mut().insert(task::id(), number);
        if let Some(story) = self.stories.borrow_mut().get_mut(&number) {
            story.began = self.now();
            story.accepting = self.accepting();
        }
    }

    /// The request that the current task is working on.
    pub(super) fn current(&self) -> Option<usize> {
        self.tasks.borrow().get(&task::try_id()?).copied()
    }

    pub(super) fn task_ended(&self, task: task::Id) {
        self.tasks.borrow_mut().remove(&task);
    }

    /// The request is over for its client.
    pub(super) fn take(&self, number: usize) -> Option<Story> {
        self.stories.borrow_mut().remove(&number)
    }

    /// An attempt begins on that host; its place among those of the request.
    pub(super) fn tried(&self, number: usize, server: usize, reused: bool) -> Option<usize> {
        let mut stories = self.stories.borrow_mut();
        let story = stories.get_mut(&number)?;
        if !story.attempts.is_empty() {
            self.retries.borrow_mut().push_back(self.now());
        }
        story.attempts.push(Attempt {
            server,
            at: self.now(),
            reused,
            fate: Fate::Open,
            over: Duration::MAX,
            accepting: 0,
            roomy: 0,
        });
        Some(story.attempts.len() - 1)
    }

    /// Something became of an attempt.
    pub(super) fn fate(&self, number: usize, place: usize, fate: Fate) {
        let mut stories = self.stories.borrow_mut();
        let attempt = stories
            .get_mut(&number)
            .and_then(|story| story.attempts.get_mut(place));
        if let Some(attempt) = attempt {
            attempt.fate = match (attempt.fate, fate) {
                // It was about to send the rest.
                (
                    Fate::Answered {
                        status,
                        retry_after,
                        ..
                    },
                    Fate::Lost,
                ) => Fate::Answered {
                    status,
                    retry_after,
                    whole: false,
                },
                (_, fate) => fate,
            };
            attempt.over = self.now();
            attempt.accepting = self.accepting();
            attempt.roomy = self.roomy();
        }
    }

    /// The servers that take traffic now.
    pub(super) fn accepting(&self) -> Set {
        set_of(&self.servers, |server| server.accepts_traffic())
    }

    /// The servers that have room now.
    pub(super) fn roomy(&self) -> Set {
        set_of(&self.servers, |server| server.has_room())
    }

    /// How often requests were sent once more in the last ten seconds.
    pub(super) fn recent_retries(&self) -> usize {
        let mut retries = self.retries.borrow_mut();
        let from = self.now().saturating_sub(Duration::from_secs(10));
        while retries.front().is_some_and(|at| *at < from) {
            retries.pop_front();
        }
        retries.len()
    }

    /// How often the budget has refused a retry.
    pub(super) fn budget_refusals(&self) -> u64 {
        self.shard.budget_exhausted.get()
    }
}

fn set_of(servers: &[Arc<Server>], is_in: impl Fn(&Arc<Server>) -> bool) -> Set {
    let numbered = servers.iter().enumerate();
    numbered
        .filter(|(_, server)| is_in(server))
        .fold(0, |set, (number, _)| set | 1 << number)
}
