use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plainsong::testing::{Answer, ClientNumber};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History as Checked};
use todc_utils::specifications::Specification;

use super::Access;

/// The calls of all clients and their answers, in the order of simulated time.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Calls of each register. A history of several objects is linearizable if the history of each
    /// object is.
    registers: BTreeMap<u64, Register>,
    under_way: BTreeMap<ClientNumber, Access>,
}

#[derive(Clone, Debug, Default)]
struct Register {
    actions: Vec<(usize, Action<Call>)>,
    calls: usize,
    /// Calls without an answer: the process and the place of the call.
    open: BTreeMap<ClientNumber, (usize, usize)>,
}

/// A call and its result.
#[derive(Clone, Copy, Debug)]
struct Call {
    access: Access,
    result: CallResult,
}

#[derive(Clone, Copy, Debug)]
enum CallResult {
    Output(u64),
    /// The call took effect at some time, or not at all.
    Unknown,
}

struct RegisterOfTheOrder;

impl Specification for RegisterOfTheOrder {
    type State = u64;
    type Operation = Call;

    fn init() -> u64 {
        0
    }

    fn apply(call: &Call, state: &u64) -> (bool, u64) {
        match call.result {
            CallResult::Output(before) => (before == *state, call.access.after(*state)),
            CallResult::Unknown => (true, call.access.after(*state)),
        }
    }
}

impl History {
    /// Records a call of a client.
    pub fn called(&mut self, client: ClientNumber, access: Access) {
        self.under_way.insert(client, access);
        let register = self.registers.entry(access.register()).or_default();
        let process = register.calls;
        register.calls += 1;
        register.open.insert(client, (process, register.actions.len()));
        let call = Call { access, result: CallResult::Unknown };
        register.actions.push((process, Action::Call(call)));
    }

    /// Records the answer to a client's call.
    pub fn answered(&mut self, client: ClientNumber, answer: Answer<u64>) {
        let Some(access) = self.under_way.remove(&client) else { return };
        let Some(register) = self.registers.get_mut(&access.register()) else { return };
        let Some((process, at)) = register.open.get(&client).copied() else { return };
        match answer {
            Answer::Output(before) => {
                register.open.remove(&client);
                let call = Call { access, result: CallResult::Output(before) };
                register.actions.push((process, Action::Response(call)));
            }
            // It never took effect, so the call is removed.
            Answer::Refused => {
                register.open.remove(&client);
                register.actions.remove(at);
                for (_, call) in register.open.values_mut() {
                    *call -= usize::from(*call > at);
                }
            }
            // It may take effect at any later time.
            Answer::Unknown => {}
        }
    }

    /// Gives up all calls in progress: they will never be answered.
    pub fn forget_calls(&mut self) {
        self.under_way.clear();
    }

    /// Returns the first register whose history is not linearizable.
    pub fn wrong(&self) -> Option<u64> {
        let wrong = self.registers.iter().find(|(_, register)| !register.is_linearizable());
        wrong.map(|(register, _)| *register)
    }
}

/// Prints a line for each call and each answer, by register, in order. A call without an answer had
/// an unknown outcome.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, register) in &self.registers {
            writeln!(f, "register {number}")?;
            for (process, action) in &register.actions {
                match action {
                    Action::Call(call) => writeln!(f, "  {process} calls {:?}", call.access)?,
                    Action::Response(call) => writeln!(f, "  {process} gets {:?}", call.result)?,
                }
            }
        }
        Ok(())
    }
}

impl Call {
    /// Returns the value that this swap replaced, if the swap is known to have taken effect because
    /// a client saw its value.
    fn swaps(&self, seen: &BTreeSet<u64>) -> Option<u64> {
        match self.access {
            Access::Swap { from, to, .. } if seen.contains(&to) => Some(from),
            _ => None,
        }
    }
}

impl Register {
    /// Returns the calls without an answer.
    fn unknown(&self) -> impl Iterator<Item = &Call> {
        self.open.values().filter_map(|(_, at)| match self.actions.get(*at) {
            Some((_, Action::Call(call))) => Some(call),
            _ => None,
        })
    }

    fn is_linearizable(&self) -> bool {
        let mut seen: BTreeSet<u64> = self.actions.iter().filter_map(seen).collect();
        // A swap of unknown outcome that took effect has seen the value that it replaced.
        let mut grows = true;
        while grows {
            let swapped: Vec<u64> = self.unknown().filter_map(|call| call.swaps(&seen)).collect();
            let before = seen.len();
            seen.extend(swapped);
            grows = seen.len() > before;
        }
        let mut actions = self.actions.clone();
        let mut unseen = BTreeSet::new();
        for (process, at) in self.open.values() {
            let Some((_, Action::Call(call))) = self.actions.get(*at) else { continue };
            // Values are written once, and every later write returns the value before it. So if no
            // client saw the value of a call, no call followed it, and it can be left out.
            // Otherwise the checker would try it at every place.
            match call.access.written() {
                Some(value) if seen.contains(&value) => {
                    actions.push((*process, Action::Response(*call)));
                }
                _ => {
                    unseen.insert(*process);
                }
            }
        }
        actions.retain(|(process, _)| !unseen.contains(process));
        actions.is_empty()
            || WGLChecker::<RegisterOfTheOrder>::is_linearizable(Checked::from_actions(actions))
    }
}

/// Returns the value in a response.
fn seen((_, action): &(usize, Action<Call>)) -> Option<u64> {
    match action {
        Action::Response(Call { result: CallResult::Output(before), .. }) => Some(*before),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Access = Access::Read { register: 1 };

    fn write(value: u64) -> Access {
        Access::Write { register: 1, value }
    }

    /// Client number, call, and answer.
    type Step = (u64, Option<Access>, Option<Answer<u64>>);

    fn history(steps: &[Step]) -> History {
        let mut history = History::default();
        for (client, access, answer) in steps {
            if let Some(access) = access {
                history.called(ClientNumber(*client), *access);
            }
            if let Some(answer) = answer {
                history.answered(ClientNumber(*client), answer.clone());
            }
        }
        history
    }

    fn seen(value: u64) -> Option<Answer<u64>> {
        Some(Answer::Output(value))
    }

    #[test]
    fn a_read_of_an_overwritten_value_is_not_linearizable() {
        let stale =
            [(1, Some(write(1)), seen(0)), (1, Some(write(2)), seen(1)), (2, Some(READ), seen(1))];
        assert_eq!(history(&stale).wrong(), Some(1));
        let right = [stale[0].clone(), stale[1].clone(), (2, Some(READ), seen(2))];
        assert_eq!(history(&right).wrong(), None);
        let at_once = [
            (1, Some(write(1)), seen(0)),
            (1, Some(write(2)), None),
            (2, Some(READ), seen(1)),
            (1, None, seen(1)),
        ];
        assert_eq!(history(&at_once).wrong(), None);
    }

    #[test]
    fn a_call_of_unknown_outcome_may_take_effect_late_or_never_and_a_rejected_one_never_does() {
        let unknown = [
            (1, Some(write(1)), Some(Answer::Unknown)),
            (2, Some(READ), seen(0)),
            (2, Some(READ), seen(1)),
        ];
        assert_eq!(history(&unknown).wrong(), None);
        let never = [unknown[0].clone(), unknown[1].clone()];
        assert_eq!(history(&never).wrong(), None);
        let back = [unknown[0].clone(), unknown[2].clone(), unknown[1].clone()];
        assert_eq!(history(&back).wrong(), Some(1));
        let refused = [(1, Some(write(1)), Some(Answer::Refused)), (2, Some(READ), seen(1))];
        assert_eq!(history(&refused).wrong(), Some(1));
    }
}
