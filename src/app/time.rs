use std::time::Duration;

use jiff::SignedDuration;

use crate::{
    clock::{Clock, Reading},
    store::Store,
    telemetry::Metrics,
};

/// How often the system's clock is held to the time that has passed.
const EVERY: Duration = Duration::from_secs(1);

/// How coarsely the time is noted: a process that is killed forgets no more of it.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Notes the time for the processes to come, and says when the system's clock goes wrong or is put right.
pub(super) async fn watch(store: Store, clock: Clock, metrics: Metrics) {
    let mut taken_back = 0;
    let mut said = None;
    let mut noting = true;
    loop {
        let reading = clock.reading();
        // Verdicts say when they end by the time that they were made at.
        if reading.taken_back != taken_back {
            store.forget_verdicts();
            taken_back = reading.taken_back;
        }
        let trouble = Trouble::of(&reading);
        if trouble != said {
            match trouble {
                Some(_) => tracing::error!("{}", self::trouble(&reading).unwrap_or_default()),
                None => tracing::info!("the system's clock and the time that is judged by agree again"),
            }
            said = trouble;
        }
        metrics.clock_behind_seconds(reading.behind().map_or(0, |behind| behind.as_secs()));
        let noted = store.note_time(NOTED_EVERY).await;
        if let Err(error) = &noted
            && noting
        {
            tracing::error!("the time was not noted: {error}");
        }
        noting = noted.is_ok();
        tokio::time::sleep(EVERY).await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Behind,
    Jumped,
}

impl Trouble {
    fn of(reading: &Reading) -> Option<Self> {
        let behind = reading.behind().map(|_| Self::Behind);
        behind.or_else(|| reading.jumped().map(|_| Self::Jumped))
    }
}

/// What is wrong with the system's clock, what follows from it, and what to do.
pub(super) fn trouble(reading: &Reading) -> Option<String> {
    let shown = |duration: SignedDuration| format!("{:#}", SignedDuration::from_secs(duration.as_secs()));
    if let Some(behind) = reading.behind() {
        return Some(format!(
            "the clock is {} behind the latest time known here, {:.0}, which signatures are judged by: put it right, or, \
             if it is right, stop sig-repo and run `sig-repo clock --accept`",
            shown(behind),
            reading.now
        ));
    }
    reading.jumped().map(|jumped| {
        format!(
            "the clock has jumped {} ahead: signatures are judged by it, and once that has lasted 10 minutes it cannot \
             be taken back",
            shown(jumped)
        )
    })
}
