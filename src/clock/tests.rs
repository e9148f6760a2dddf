use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn running() -> Clock {
    let clock = Clock::manual(start());
    clock.resume(None);
    assert_eq!(clock.now(), start());
    clock
}

#[test]
fn a_clock_that_is_set_back_goes_on_from_where_it_was_at_its_own_pace() {
    let clock = running();
    clock.advance(MINUTE);
    assert_eq!(clock.now(), start() + MINUTE);
    clock.set(start() - YEAR);
    assert_eq!(clock.now(), start() + MINUTE);
    clock.advance(SECOND);
    assert_eq!(clock.now(), start() + MINUTE + SECOND);
    assert_eq!(clock.system_time(), start() - YEAR + SECOND);
    assert_eq!(clock.reading().behind(), Some((YEAR + MINUTE).try_into().unwrap()));
    // Put right, nothing of it is left.
    clock.set(start() + MINUTE + SECOND);
    assert_eq!((clock.now(), clock.reading().behind()), (start() + MINUTE + SECOND, None));
}

#[test]
fn a_jump_ahead_is_judged_by_at_once_and_taken_back_while_it_is_short() {
    let clock = running();
    clock.set(start() + YEAR);
    let jumped = clock.reading();
    assert_eq!((jumped.now, jumped.settled, jumped.believed), (start() + YEAR, start(), start()));
    assert_eq!(jumped.jumped(), Some(YEAR.try_into().unwrap()));
    clock.advance(9 * MINUTE);
    assert_eq!(clock.now(), start() + YEAR + 9 * MINUTE);
    assert_eq!(clock.reading().settled, start() + 9 * MINUTE);
    clock.set(start() + 9 * MINUTE);
    assert_eq!((clock.now(), clock.reading().jumped()), (start() + 9 * MINUTE, None));
    assert_eq!((jumped.taken_back, clock.reading().taken_back), (0, 1));
    // What lasted then does not count for the next one.
    clock.set(start() + YEAR);
    clock.now();
    clock.advance(2 * MINUTE);
    clock.now();
    clock.set(start());
    assert_eq!(clock.now(), start() + 11 * MINUTE);
}

#[test]
fn a_jump_ahead_that_lasts_is_believed_for_good() {
    let clock = running();
    clock.set(start() + YEAR);
    clock.now();
    clock.advance(10 * MINUTE);
    let believed = start() + YEAR + 10 * MINUTE;
    assert_eq!((clock.now(), clock.reading().settled), (believed, believed));
    clock.set(start());
    assert_eq!(clock.now(), believed);
    // What cannot be undone is done by neither time unless the other agrees.
    assert_eq!(clock.reading().settled, start());
}

#[test]
fn a_second_jump_has_to_last_by_itself() {
    let clock = running();
    clock.set(start() + YEAR);
    clock.now();
    clock.advance(9 * MINUTE);
    clock.set(start() + 2 * YEAR);
    clock.now();
    clock.advance(9 * MINUTE);
    clock.now();
    clock.set(start());
    assert_eq!(clock.now(), start() + 18 * MINUTE);
}

#[test]
fn small_adjustments_are_believed_at_once() {
    let clock = running();
    clock.set(start() + 30 * SECOND);
    assert_eq!(clock.reading().settled, start() + 30 * SECOND);
    clock.set(start());
    assert_eq!((clock.now(), clock.reading().behind()), (start() + 30 * SECOND, None));
}

#[test]
fn a_start_believes_the_later_of_the_system_and_what_was_believed_before() {
    let clock = Clock::manual(start());
    clock.resume(Some(start() + YEAR));
    assert_eq!((clock.now(), clock.reading().believed), (start() + YEAR, start() + YEAR));
    assert_eq!(clock.reading().behind(), Some(YEAR.try_into().unwrap()));

    let clock = Clock::manual(start() + YEAR);
    // Whoever writes the first line of the log asks for the time before anything is known.
    clock.now();
    clock.resume(Some(start()));
    let reading = clock.reading();
    assert_eq!((reading.now, reading.believed), (start() + YEAR, start() + YEAR));
    assert_eq!((reading.settled, reading.jumped()), (start(), None), "nothing is removed on the word of one start");
    clock.set(start());
    assert_eq!(clock.now(), start() + YEAR);
}
