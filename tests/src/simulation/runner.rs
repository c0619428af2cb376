use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use linearizability::{Access, History};
use plainsong::Consistency;
use plainsong::testing::{
    Answer, ClientNumber, Parameters, Random, Report, Simulation, Theme, Workload,
};

use super::{Command, Output, Registers};

/// Clients of [`Registers`]. Their history is checked at the end.
#[derive(Debug, Default)]
pub struct Clients {
    history: History,
    last_value: u64,
    registers: u64,
    /// Number of the first register in use. Registers of replaced clusters have smaller numbers.
    first_register: u64,
    /// Commands that set an alarm, per thousand.
    alarms: u32,
    /// Extra size of the state, in bytes.
    ballast: usize,
    /// Number of calls of each register. A register with many calls is replaced by a new one,
    /// because the time to check a history grows with its square.
    calls: BTreeMap<u64, u32>,
    /// Registers that clients are reading, for reads that belong to the history.
    reading: BTreeMap<ClientNumber, u64>,
}

/// Maximum number of calls of one register.
const CALLS_MAX: u32 = 40;

impl Clients {
    /// Creates clients of `registers` registers; the fewer there are, the more often clients meet
    /// at one. `alarms` commands per thousand set an alarm. The state is `ballast` bytes larger
    /// than necessary.
    pub fn new(registers: u64, alarms: u32, ballast: usize) -> Self {
        Self { registers, alarms, ballast, ..Self::default() }
    }

    fn register(&mut self, random: &mut Random) -> u64 {
        let mut register = self.first_register + random.below(self.registers);
        while self.calls.get(&register).is_some_and(|calls| *calls >= CALLS_MAX) {
            register += self.registers;
        }
        *self.calls.entry(register).or_default() += 1;
        register
    }
}

impl Workload for Clients {
    type Machine = Registers;

    fn machine(&self) -> Registers {
        Registers::with_ballast(self.ballast)
    }

    fn reads(&mut self, client: ClientNumber, random: &mut Random) -> Option<Consistency> {
        let consistency = match random.below(10) {
            0..6 => return None,
            6 => Consistency::Local,
            7 => Consistency::ReadYourWrites,
            _ => Consistency::Linearizable,
        };
        if consistency != Consistency::Local {
            let register = self.register(random);
            self.reading.insert(client, register);
            self.history.called(client, Access::Read { register });
        }
        Some(consistency)
    }

    fn seen(&mut self, client: ClientNumber, state: Option<&Registers>) {
        let Some(register) = self.reading.remove(&client) else { return };
        // A failed read is as if it had never been.
        let answer = state.map_or(Answer::Refused, |state| Answer::Output(state.value(register)));
        self.history.answered(client, answer);
    }

    fn command(&mut self, client: ClientNumber, random: &mut Random) -> Command {
        if random.chance(self.alarms) {
            // Alarms that are overdue, that are due soon, and that are due after the last command.
            return Command::Alarm {
                ms: random.pick(&[0, 100, 1000, 10_000]) + random.below(3000),
            };
        }
        let register = self.register(random);
        self.last_value += 1;
        let value = self.last_value;
        let access = match random.below(10) {
            0..2 => Access::Read { register },
            2..9 => Access::Write { register, value },
            _ => Access::Swap { register, from: random.below(value), to: value },
        };
        self.history.called(client, access);
        access.into()
    }

    fn answered(&mut self, client: ClientNumber, answer: Answer<Output>) {
        let answer = match answer {
            Answer::Output(Output(before)) => Answer::Output(before),
            Answer::Refused => Answer::Refused,
            Answer::Unknown => Answer::Unknown,
        };
        self.history.answered(client, answer);
    }

    fn forced(&mut self) {
        self.history.forget_calls();
        self.first_register += 1_000_000;
    }

    fn check(&self) -> Result<(), String> {
        self.history.wrong().map_or(Ok(()), |register| {
            Err(format!("the history of register {register} is not linearizable"))
        })
    }
}

/// The reason why a seed failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// Draws the parameters of a seed. One seed in seven ends with a forced new cluster.
fn parameters(seed: u64) -> Parameters {
    let mut parameters = Parameters::drawn(seed);
    parameters.disaster = seed % 7 == 3;
    parameters
}

/// Creates clients with enough registers that few clients meet at one: the time to check concurrent
/// calls grows exponentially.
fn clients(parameters: &Parameters) -> Clients {
    let clients = u64::from((parameters.voters + parameters.learners) * parameters.clients);
    let mut random = Random::new(parameters.seed);
    let registers = 1 + clients / 3 + random.below(4);
    let alarms = random.pick(&[0, 0, 100, 500]);
    // Some snapshots have several chunks, unless too many snapshots are taken.
    let ballast = random.pick(&[0, 0, 0, 0, 200_000, 1_000_000]);
    let is_bearable = parameters.snapshot_entries >= 50 && parameters.snapshot_bytes >= 1 << 20;
    // Large enough that a transfer takes many chunks.
    if parameters.theme == Theme::Transfers {
        return Clients::new(registers, alarms, random.pick(&[300_000, 600_000]));
    }
    Clients::new(registers, alarms, if is_bearable { ballast } else { 0 })
}

/// Runs one seed.
///
/// # Errors
///
/// The first violation, or the panic.
pub fn run_seed(seed: u64) -> Result<Report, Failure> {
    let parameters = parameters(seed);
    let clients = clients(&parameters);
    guarded(|| Simulation::new(parameters, clients).run())
}

/// Runs one seed and passes each line of its trace to `reader`.
///
/// # Errors
///
/// As [`run_seed`].
pub fn trace_seed(seed: u64, reader: impl FnMut(&str) + Send + 'static) -> Result<Report, Failure> {
    let parameters = parameters(seed);
    let clients = clients(&parameters);
    guarded(|| Simulation::traced(parameters, clients, reader).run())
}

/// Runs a simulation. A panic is a failure like any other.
fn guarded(
    run: impl FnOnce() -> Result<Report, plainsong::testing::Violation>,
) -> Result<Report, Failure> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|violation| Failure(violation.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Failure(format!("panic: {}", text.unwrap_or_default())))
        }
    }
}
