//! One instance of a guest, and how its functions are called.
//!
//! *Invariant:* a call runs for at most [`SLICE_FUEL`] before it yields, and for [`CALL_FUEL`] altogether. A call that failed
//! or was dropped leaves the instance in an unknown state: it is thrown away, never used again.

use std::sync::Arc;
use std::time::Duration;

use pillion_core::log::Logger;
use wasmi::{Func, Instance, Memory, ResumableCall, Store, StoreLimits, StoreLimitsBuilder, Val};

use crate::exchange::Exchange;
use crate::module::Compiled;
use crate::wasi::{Clocks, Output, Sleep};

/// Fuel between two yields, about a third of a millisecond of a release build.
pub(crate) const SLICE_FUEL: u64 = 200_000;
/// Fuel of one call, a few seconds of a release build.
pub(crate) const CALL_FUEL: u64 = if cfg!(test) { 100_000_000 } else { 2_000_000_000 };
/// The largest memory of an instance; compilers ask for 16 MiB or less and grow from there.
const MEMORY_LIMIT: usize = 256 * 1024 * 1024;
/// The most entries of a table; Go's runtime has some ten thousand.
const TABLE_LIMIT: usize = 1_000_000;

/// What host functions find in the store.
pub(crate) struct GuestState {
    /// The request at hand; none while the guest starts.
    pub(crate) exchange: Option<Box<Exchange>>,
    /// Features enabled while starting; each exchange begins with them.
    pub(crate) features: u32,
    pub(crate) config: Arc<[u8]>,
    pub(crate) log: Logger,
    pub(crate) clocks: Clocks,
    pub(crate) output: Output,
    limits: StoreLimits,
}

/// Why a host function stops the guest for a while; the call goes on when it is done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Pause {
    /// The request body has to be read from its stream.
    #[error("waits for the request body")]
    RequestBody {
        /// Where the guest wants it.
        buffer: u32,
        /// How much.
        limit: u32,
    },
    /// The guest sleeps.
    #[error("sleeps")]
    Sleep(Sleep),
}

impl wasmi::errors::HostError for Pause {}

/// An instance at rest.
pub(crate) struct Guest {
    store: Store<GuestState>,
    memory: Memory,
    handle_request: Func,
    handle_response: Func,
}

impl Guest {
    /// Makes an instance and runs its start function.
    ///
    /// # Errors
    /// A text: the guest imports what no host offers, trapped, or ran too long.
    pub(crate) async fn start(compiled: &Compiled) -> Result<Self, String> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).table_elements(TABLE_LIMIT).build();
        let state = GuestState {
            exchange: None,
            features: 0,
            config: compiled.config.clone(),
            log: compiled.log.clone(),
            clocks: Clocks::new(compiled.strict_sandbox),
            output: Output::default(),
            limits,
        };
        let mut store = Store::new(&compiled.engine, state);
        store.limiter(|state| &mut state.limits);
        let problem = |error: wasmi::Error| format!("wasm: error instantiating guest: {error}");
        store.set_fuel(SLICE_FUEL * 10).map_err(problem)?; // a start section is a few instructions
        let instance = compiled.linker.instantiate_and_start(&mut store, &compiled.module).map_err(problem)?;
        let export = |store: &Store<GuestState>, name: &str| {
            function(store, instance, name).ok_or_else(|| format!("wasm: guest doesn't export func[{name}]"))
        };
        let handle_request = export(&store, "handle_request")?;
        let handle_response = export(&store, "handle_response")?;
        let memory = instance.get_memory(&store, "memory").ok_or("wasm: guest doesn't export memory[memory]")?;
        // A command module starts with `_start`, a reactor with `_initialize`.
        let start = function(&store, instance, "_start").or_else(|| function(&store, instance, "_initialize"));
        let mut guest = Self { store, memory, handle_request, handle_response };
        if let Some(start) = start {
            match guest.call(start, &[], &mut []).await {
                Err(error) if error.i32_exit_status() != Some(0) => return Err(problem(error)),
                _ => {}
            }
            guest.flush_output();
        }
        Ok(guest)
    }

    /// The features that the guest enabled while starting.
    pub(crate) fn features(&self) -> u32 {
        self.store.data().features
    }

    /// Gives the guest a request to work on.
    pub(crate) fn attach(&mut self, exchange: Box<Exchange>) {
        self.store.data_mut().exchange = Some(exchange);
    }

    /// The request at hand.
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.store.data_mut().exchange.as_deref_mut()
    }

    /// Ends the work on a request.
    pub(crate) fn detach(&mut self) -> Option<Box<Exchange>> {
        self.store.data_mut().exchange.take()
    }

    /// Calls `handle_request`: whether to go on to the next handler, and the guest's mark of this request.
    ///
    /// # Errors
    /// The guest trapped or ran too long.
    pub(crate) async fn handle_request(&mut self) -> Result<(bool, u32), wasmi::Error> {
        let mut results = [Val::I64(0)];
        self.call(self.handle_request, &[], &mut results).await?;
        let packed = results[0].i64().unwrap_or_default().cast_unsigned();
        let (mark, next) = ((packed >> 32) as u32, packed as u32);
        Ok((next != 0, mark))
    }

    /// Calls `handle_response`.
    ///
    /// # Errors
    /// The guest trapped or ran too long.
    pub(crate) async fn handle_response(&mut self, mark: u32, is_error: bool) -> Result<(), wasmi::Error> {
        let inputs = [Val::I32(mark.cast_signed()), Val::I32(i32::from(is_error))];
        self.call(self.handle_response, &inputs, &mut []).await
    }

    /// Logs what the guest wrote to its standard output and error.
    pub(crate) fn flush_output(&mut self) {
        let state = self.store.data_mut();
        state.output.flush(&state.log);
    }

    async fn call(&mut self, function: Func, inputs: &[Val], outputs: &mut [Val]) -> Result<(), wasmi::Error> {
        let mut fuel_left = CALL_FUEL;
        self.store.set_fuel(SLICE_FUEL)?;
        let mut step = function.call_resumable(&mut self.store, inputs, outputs)?;
        loop {
            step = match step {
                ResumableCall::Finished => return Ok(()),
                ResumableCall::OutOfFuel(call) => {
                    let slice = SLICE_FUEL.max(call.required_fuel());
                    fuel_left = fuel_left.checked_sub(slice).ok_or_else(|| {
                        wasmi::Error::new("the guest ran longer than a call may (an endless loop?); it was stopped")
                    })?;
                    tokio::task::yield_now().await;
                    self.store.set_fuel(slice)?;
                    call.resume(&mut self.store, outputs)?
                }
                ResumableCall::HostTrap(call) => match call.host_error().downcast_ref::<Pause>() {
                    None => return Err(call.into_host_error()),
                    Some(&Pause::RequestBody { buffer, limit }) => {
                        let answer = self.read_request(buffer, limit).await.map_err(wasmi::Error::new)?;
                        call.resume(&mut self.store, &[Val::I64(answer.cast_signed())], outputs)?
                    }
                    Some(&Pause::Sleep(sleep)) => {
                        tokio::time::sleep(sleep.length).await;
                        self.write(sleep.events, &sleep.event()).map_err(wasmi::Error::new)?;
                        self.write(sleep.count, &1_u32.to_le_bytes()).map_err(wasmi::Error::new)?;
                        call.resume(&mut self.store, &[Val::I32(0)], outputs)?
                    }
                },
            };
        }
    }

    async fn read_request(&mut self, buffer: u32, limit: u32) -> Result<u64, String> {
        let exchange = self.exchange().ok_or("no request at hand")?;
        exchange.fill_request(limit as usize).await?;
        let (bytes, last) = exchange.read_request(limit as usize)?;
        self.write(buffer, &bytes)?;
        Ok(u64::from(last) << 32 | bytes.len() as u64)
    }

    fn write(&mut self, start: u32, bytes: &[u8]) -> Result<(), String> {
        self.memory
            .write(&mut self.store, start as usize, bytes)
            .map_err(|_| "out of memory: the guest passed a region outside its memory".to_owned())
    }
}

fn function(store: &Store<GuestState>, instance: Instance, name: &str) -> Option<Func> {
    instance.get_func(store, name)
}

impl Sleep {
    /// The longest sleep of a guest, so that a request ends some day.
    pub(crate) const LONGEST: Duration = Duration::from_secs(60);
}
