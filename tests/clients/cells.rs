//! The matrix: every client, in every way of being told about us, through every door, by every kind of reference, in
//! every state of the image and with every fault behind the mirror. What is signed comes as it is upstream; everything
//! else stays away, the client says why where it can, has nothing of the image afterwards, and nobody asked the Hub.
//!
//! A run has as many of these cells as it takes for every two values to meet; with the long matrices it has all.
//! `table` shows what became of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    thread,
};

use parking_lot::Mutex;

use crate::{
    clients::{BUILT, Client, Mode, Pull},
    doors::Door,
    images::Image,
    world::{World, everything, inside},
};

mod ballast;
mod choice;
mod stage;
mod state;
mod table;

use stage::Stage;
use state::{Expected, State, Target};

/// One pull, in one state of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    client: Client,
    target: Target,
    mode: Mode,
    state: State,
    door: Door,
}

/// What became of a cell.
struct Outcome {
    cell: Cell,
    told: Result<Told, String>,
}

/// What whoever pulled got to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Nothing had to be told: it came.
    Came,
    Reason,
    /// The status that the refusal has, and not why.
    Status,
    Nothing,
}

const MODES: [Mode; 3] = [Mode::Mirror, Mode::Direct, Mode::DirectByName];

impl Cell {
    /// Those that this run tries.
    fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Cell>> = OnceLock::new();
        ALL.get_or_init(Self::planned)
    }

    fn planned() -> Vec<Self> {
        let clients = Client::of_matrix();
        let sizes = [clients.len(), Target::ALL.len(), MODES.len(), State::ALL.len(), Door::ALL.len()];
        let cell = |[client, target, mode, state, door]: [usize; 5]| Self {
            client: clients[client],
            target: Target::ALL[target],
            mode: MODES[mode],
            state: State::ALL[state],
            door: Door::ALL[door],
        };
        let all = choice::all(sizes, |values| cell(values).exists());
        let chosen = if everything() { all } else { choice::pairwise(sizes, &all) };
        chosen.into_iter().map(cell).collect()
    }

    fn exists(self) -> bool {
        let takes_long = self.state == State::TIMEOUT;
        self.client.knows(self.mode)
            && self.state.is_for(self.target)
            && !(self.state == State::HeldAndRevoked && self.client.serves_what_it_has())
            && (everything() || !takes_long || (self.door == Door::Plain && self.mode == self.client.modes()[0]))
    }

    fn pull<'a>(&self, image: &'a Image) -> Pull<'a> {
        let reference = self.target.reference(image);
        Pull { client: self.client, mode: self.mode, door: self.door, repository: &image.repository, reference }
    }

    /// Tries it, and leaves the client empty for the next.
    fn tried(self, world: &World, stage: &Stage<'_>, image: &Image) -> Outcome {
        let told = catch_unwind(AssertUnwindSafe(|| {
            stage.renew(self.state);
            self.held(world, stage, image)
        }));
        let told = told.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            format!("{text}\nThe mirror said:\n{}", stage.mirror.log())
        });
        // What one has of the state to be tried is not the next one's to lose, where both share a daemon.
        if self.state != State::HeldAndRevoked && matches!(told, Ok(Told::Came) | Err(_)) {
            self.client.empty(world);
        }
        Outcome { cell: self, told }
    }

    fn held(self, world: &World, stage: &Stage<'_>, image: &Image) -> Told {
        let pull = self.pull(image);
        let Expected::Refused(reason) = self.state.expected() else {
            pull.comes(world, self.target.held_by(self.client, image));
            return Told::Came;
        };
        let output = if self.state == State::HeldAndRevoked {
            let before = self.client.held(world);
            let held = if self.client.builds() { BUILT } else { self.target.held_by(self.client, image) };
            assert!(before.contains(held), "{pull:?}: it has no {held} to begin with:\n{before}");
            let output = pull.stays(world, reason);
            let new: Vec<_> = digests(&self.client.held(world)).difference(&digests(&before)).cloned().collect();
            assert!(new.is_empty(), "{pull:?} left {new:?}");
            output
        } else {
            pull.is_refused(world, image, reason)
        };
        assert!(self.state != State::Draining || stage.mirror.is_draining(), "{pull:?}: the mirror has ended");
        match () {
            () if output.contains(reason) => Told::Reason,
            () if STATUSES.iter().any(|status| output.contains(status)) => Told::Status,
            () => Told::Nothing,
        }
    }
}

/// Tries the cells of these states at this door, and says which did not hold.
fn hold(door: Door, states: &[State]) {
    inside(|world| {
        let mut failures = Vec::new();
        let all = Cell::all();
        for state in states {
            let cells: Vec<_> = all.iter().copied().filter(|cell| (cell.state, cell.door) == (*state, door)).collect();
            let outcomes = tried(world, *state, door, &cells);
            let failed = |outcome: &Outcome| Some((outcome.cell, outcome.told.as_ref().err()?.clone()));
            failures.extend(outcomes.iter().filter_map(failed));
            DONE.lock().extend(outcomes);
        }
        let done = DONE.lock();
        if done.len() == all.len() {
            eprintln!("\n{}", table::markdown(&done));
        }
        let listed: Vec<_> = failures.iter().map(|(cell, why)| format!("{cell:?}:\n{why}")).collect();
        assert!(listed.is_empty(), "{} cells did not hold:\n\n{}", listed.len(), listed.join("\n\n"));
    });
}

fn tried(world: &World, state: State, door: Door, cells: &[Cell]) -> Vec<Outcome> {
    let one_by_one = |cells: &[Cell]| -> Vec<Outcome> {
        let stage = Stage::set(world, state, door, cells);
        let tried = cells.iter().zip(&stage.images).map(|(cell, image)| cell.tried(world, &stage, image)).collect();
        if state == State::HeldAndRevoked {
            cells.iter().for_each(|cell| cell.client.empty(world));
        }
        tried
    };
    match state {
        _ if cells.is_empty() => Vec::new(),
        // Some have room for one image, and all are to have theirs before the key is revoked.
        State::HeldAndRevoked => once_each(cells).iter().flat_map(|cells| one_by_one(cells)).collect(),
        // It stays no longer than half a minute.
        State::Draining => cells.chunks(CELLS_OF_A_DRAIN).flat_map(one_by_one).collect(),
        // All that such a pull does is wait, so they wait together; for each client only one at a time.
        State::TIMEOUT => rounds(cells)
            .iter()
            .flat_map(|cells| {
                let stage = Stage::set(world, state, door, cells);
                let (stage, pairs) = (&stage, cells.iter().zip(&stage.images));
                pairs.clone().for_each(|(cell, image)| cell.pull(image).announce(world));
                thread::scope(|scope| {
                    let running: Vec<_> =
                        pairs.map(|(cell, image)| scope.spawn(|| cell.tried(world, stage, image))).collect();
                    running.into_iter().map(|cell| cell.join().unwrap()).collect::<Vec<_>>()
                })
            })
            .collect(),
        _ => one_by_one(cells),
    }
}

/// Those in a text.
fn digests(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != ':');
    words.filter(|word| word.starts_with("sha256:")).map(str::to_owned).collect()
}

/// The same cells in groups that have no client twice.
fn once_each(cells: &[Cell]) -> Vec<Vec<Cell>> {
    let mut groups: Vec<Vec<Cell>> = Vec::new();
    for cell in cells {
        let free = groups.iter_mut().find(|group| group.iter().all(|other| other.client != cell.client));
        match free {
            Some(group) => group.push(*cell),
            None => groups.push(vec![*cell]),
        }
    }
    groups
}

/// The same cells in groups that tell their clients the same things.
fn rounds(cells: &[Cell]) -> Vec<Vec<Cell>> {
    let mut rounds: BTreeMap<Mode, Vec<Cell>> = BTreeMap::new();
    for cell in cells {
        rounds.entry(cell.mode).or_default().push(*cell);
    }
    // Those that builds share a daemon with are told of the mirror after it has started for the build.
    rounds.values_mut().for_each(|cells| cells.sort_by_key(|cell| !cell.client.builds()));
    rounds.into_values().collect()
}

/// The same promises at each door. By door first, because dockerd has to start again to be told of another.
macro_rules! at_each_door {
    ($($module:ident: $door:expr,)*) => {$(
        mod $module {
            use super::{Door, State, hold};

            at_each_door!(@promises $door,
                signed_images_come: [State::Signed],
                unsigned_images_stay_away: [State::Unsigned],
                images_stay_away_once_their_key_is_revoked: [State::Revoked],
                images_stay_away_once_their_record_has_expired: [State::Expired],
                a_client_that_has_the_image_is_refused_once_its_key_is_revoked: [State::HeldAndRevoked],
                an_upstream_that_fails_is_a_refusal: State::UPSTREAM,
                an_upstream_that_says_nothing_is_a_refusal: [State::TIMEOUT],
                a_store_that_fails_is_a_refusal: [State::StoreFailing],
                a_full_disk_refuses_what_is_new_and_nothing_else: [State::DiskFull, State::DiskFullAndKnown],
                signatures_that_take_too_long_are_a_refusal: [State::BudgetSpent],
                a_mirror_on_its_way_out_refuses: [State::Draining],
            );
        }
    )*};
    (@promises $door:expr, $($name:ident: $states:expr,)*) => {$(
        #[test]
        #[ignore = "needs root and real clients: tests/run"]
        fn $name() {
            hold($door, &$states);
        }
    )*};
}

at_each_door! {
    directly: Door::Plain,
    through_nginx: Door::Tls,
    where_the_phrase_is_lost: Door::Dropping,
}

#[test]
fn every_state_is_tried() {
    // What the tests above name, by what the plan has.
    let planned = |state: State| Cell::all().iter().any(|cell| cell.state == state);
    assert!(State::ALL.into_iter().all(planned));
}

/// What clients print of a refusal whose reason they do not.
const STATUSES: [&str; 6] = [
    "300 Multiple Choices",
    "403 Forbidden",
    "404 Not Found",
    "500 Internal Server Error",
    "unexpected status",
    "denied",
];

const CELLS_OF_A_DRAIN: usize = 4;

static DONE: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
