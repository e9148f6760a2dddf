//! Brings about a state: a mirror behind its door, an image for each cell, and what has happened to them before.

use std::{fs, net::Ipv4Addr, path::Path};

use rcgen::{KeyPair, PKCS_ECDSA_P521_SHA512};

use super::{
    Cell,
    ballast::SmallDisk,
    state::{State, Target},
};
use crate::{
    doors::Door,
    hop::{Hop, Manner},
    hub::Faulty,
    images::Image,
    mirror::{self, Mirror, WITH_ADMIN},
    nginx::Nginx,
    process::run,
    signing::Signer,
    world::{World, free_address},
};

/// Everything that stands behind the cells of one state and door, for as long as they are tried.
pub(super) struct Stage<'a> {
    pub(super) images: Vec<Image>,
    /// Ends before the mirror, and the disk after it.
    _fault: Option<Faulty<'a>>,
    _transfer: Option<mirror::Transfer>,
    _way: Way,
    pub(super) mirror: Mirror<'a>,
    _disk: Option<SmallDisk>,
}

/// What stands between a door and the mirror.
#[derive(Default)]
struct Way {
    _nginx: Option<Nginx>,
    _hop: Option<Hop>,
}

impl<'a> Stage<'a> {
    pub(super) fn set(world: &'a World, state: State, door: Door, cells: &[Cell]) -> Self {
        let directory = mirror::fresh_directory(world);
        let disk = matches!(state, State::DiskFull | State::DiskFullAndKnown)
            .then(|| SmallDisk::mount(&directory.join("data")));
        if state == State::BudgetSpent {
            trust_many_slow_keys(&directory.join("trust"));
        }
        let mut settings = vec![("POLICY_DEFAULT", "enforce")];
        if matches!(state, State::Revoked | State::HeldAndRevoked) {
            settings.extend(WITH_ADMIN);
        }
        let (mirror, way) = open(world, door, directory, &settings);
        let images = match state {
            // Each signature costs as much to submit as to decide on, and nobody gets anything of a refused image.
            State::BudgetSpent => vec![world.registry.publish("v1"); cells.len()],
            _ => cells.iter().map(|_| world.registry.publish("v1")).collect(),
        };
        let mut stage = Self { images, _fault: None, _transfer: None, _way: way, mirror, _disk: disk };
        stage.bring_about(world, state, cells);
        stage
    }

    /// Brings about once more what the cell before has used up: what was looked at in vain is not looked at again until
    /// somebody else is trusted.
    pub(super) fn renew(&self, state: State) {
        if state == State::BudgetSpent {
            let trust = self.mirror.trust_directory();
            let trusted = fs::read_dir(&trust).unwrap().count() + 1;
            put_slow_key(&trust, trusted);
            self.mirror.wait_until(|| self.mirror.log().contains(&format!(" {trusted} signers are trusted")));
        }
    }

    fn bring_about(&mut self, world: &'a World, state: State, cells: &[Cell]) {
        let mirror = &self.mirror;
        let each = || cells.iter().zip(&self.images);
        match state {
            State::Signed => {
                for (cell, image) in each() {
                    submit(mirror, &world.signer, cell, image);
                    // A child is known by its index.
                    if cell.target == Target::Child {
                        assert!(mirror.gives(image, &image.index_tag), "{}", mirror.log());
                    }
                }
            }
            State::Unsigned => {
                for (_, image) in each().filter(|(cell, _)| cell.target == Target::Child) {
                    assert!(!mirror.gives(image, &image.index_tag));
                }
            }
            State::Revoked | State::HeldAndRevoked => {
                let signer = Signer::new(&world.scratch, "alice");
                let id = mirror.trust(&signer);
                for (cell, image) in each() {
                    submit(mirror, &signer, cell, image);
                    see(mirror, cell, image);
                    if state == State::HeldAndRevoked {
                        cell.pull(image).run(world);
                    }
                }
                mirror.curl(["--request", "DELETE"], &format!("signers/{id}"));
            }
            State::Expired => {
                for (cell, image) in each() {
                    let end = in_a_while(world);
                    let (digest, tag) = cell.target.signed(image);
                    let signature = world.signer.sign(world, digest);
                    let record = mirror.submit_record(digest, tag, &signature, &[("expires_at", &end)]);
                    assert_eq!(record["is_valid"], true, "{record}");
                    see(mirror, cell, image);
                }
                for (cell, image) in each() {
                    let (digest, _) = cell.target.signed(image);
                    mirror.wait_until(|| !mirror.holds_valid(digest));
                }
            }
            State::Upstream(fault) => {
                each().for_each(|(cell, image)| submit(mirror, &world.signer, cell, image));
                self._fault = Some(world.hub.fail(fault));
            }
            State::StoreFailing => {
                for (cell, image) in each() {
                    submit(mirror, &world.signer, cell, image);
                    see(mirror, cell, image);
                }
                mirror.take_store_away();
            }
            State::DiskFull | State::DiskFullAndKnown => {
                for (cell, image) in each() {
                    submit(mirror, &world.signer, cell, image);
                    if state == State::DiskFullAndKnown {
                        see(mirror, cell, image);
                    }
                }
                let unseen = world.registry.publish("v1");
                mirror.submit(&world.signer, &unseen.single, &unseen.tag);
                self._disk.as_mut().expect("these states have one").fill();
                assert!(!mirror.gives(&unseen, &unseen.tag), "nothing can be written, so nothing new can be served");
            }
            State::BudgetSpent => {
                let late = Signer::new(&world.scratch, "late");
                let stranger = Signer::on_curve(&world.scratch, "stranger", "secp521r1");
                let (cell, image) = each().next().expect("a state that is tried has a cell");
                let (digest, tag) = cell.target.signed(image);
                // Each way to sign is tried with each key only where the manifest is at hand.
                assert!(!mirror.gives(image, tag), "nobody has signed it yet");
                for _ in 0..SLOW_SIGNATURES {
                    mirror.submit_record(digest, tag, &stranger.sign(world, digest), &[]);
                }
                // Nobody trusts it yet, so it is not among those that are looked at first.
                mirror.submit_record(digest, tag, &late.sign(world, digest), &[]);
                late.put_into(&mirror.directory().join("trust"));
                mirror.wait_until(|| mirror.holds_valid(digest));
            }
            State::Draining => {
                each().for_each(|(cell, image)| submit(mirror, &world.signer, cell, image));
                self._transfer = Some(mirror.end_while_somebody_is_busy());
            }
        }
    }
}

/// Far enough ahead to submit and pull once before.
fn in_a_while(world: &World) -> String {
    let ran = run(world.command("date").args(["--utc", "--date=+6 seconds", "+%FT%TZ"]));
    ran.expect("date").trim().to_owned()
}

fn open<'a>(
    world: &'a World,
    door: Door,
    directory: std::path::PathBuf,
    settings: &[(&str, &str)],
) -> (Mirror<'a>, Way) {
    match door {
        Door::Plain => (Mirror::start_in(world, directory, settings), Way::default()),
        Door::Tls => {
            // Where the example in `deploy` expects it, and set up as it says.
            let behind = (Ipv4Addr::LOCALHOST, 8080).into();
            let settings = [settings, &[("TRUSTED_PROXIES", "127.0.0.1/32")]].concat();
            let mirror = Mirror::start_in_at(world, directory, behind, &settings);
            (mirror, Way { _nginx: Some(Nginx::start(world)), ..Way::default() })
        }
        Door::Dropping => {
            let behind = free_address();
            let mirror = Mirror::start_in_at(world, directory, behind, settings);
            (mirror, Way { _hop: Some(Hop::start(world, behind, Manner::Says)), ..Way::default() })
        }
    }
}

fn submit(mirror: &Mirror<'_>, signer: &Signer, cell: &Cell, image: &Image) {
    let (digest, tag) = cell.target.signed(image);
    mirror.submit(signer, digest, tag);
}

/// Somebody pulled it while all was well.
fn see(mirror: &Mirror<'_>, cell: &Cell, image: &Image) {
    let (_, tag) = cell.target.signed(image);
    assert!(mirror.gives(image, tag), "{}", mirror.log());
}

/// Each check of a signature on this curve takes about a tenth of a millisecond at best, and each signature is checked
/// six times with each key that fits.
fn trust_many_slow_keys(trust: &Path) {
    fs::create_dir_all(trust).unwrap();
    (0..SLOW_KEYS).for_each(|number| put_slow_key(trust, number));
}

fn put_slow_key(trust: &Path, number: usize) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    // Whole once it is there, or the mirror reads half of it.
    let file = trust.join(format!("slow-{number}"));
    fs::write(&file, key.public_key_pem()).unwrap();
    fs::rename(&file, file.with_extension("pub")).unwrap();
}

const SLOW_KEYS: usize = 250;

/// The first takes all the time there is, the others show that it is gone.
const SLOW_SIGNATURES: usize = 2;
