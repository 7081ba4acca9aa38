//! A compiled guest: parsed, checked and linked once, instantiated many times.

use std::sync::Arc;

use pillion_core::log::Logger;
use wasmi::{CompilationMode, Config, Engine, ExternType, FuncType, Linker, Module, ValType};

use crate::guest::GuestState;
use crate::{host, wasi};

/// What all instances of a guest share.
pub(crate) struct Compiled {
    pub(crate) engine: Engine,
    pub(crate) module: Module,
    pub(crate) linker: Linker<GuestState>,
    pub(crate) config: Arc<[u8]>,
    pub(crate) strict_sandbox: bool,
    pub(crate) log: Logger,
}

impl Compiled {
    /// Compiles a module and checks its exports. Takes milliseconds to seconds: not for an async thread.
    ///
    /// # Errors
    /// A text: not a module, or not a guest of this ABI.
    pub(crate) fn new(wasm: &[u8], config: Vec<u8>, strict_sandbox: bool, log: Logger) -> Result<Self, String> {
        let mut settings = Config::default();
        // Eager: a broken function fails the start, and no request pays for translation.
        settings.consume_fuel(true).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&settings);
        let module = Module::new(&engine, wasm).map_err(|error| {
            if wasm.starts_with(b"\0asm") {
                format!("wasm: error compiling guest: {error}")
            } else {
                "wasm: error compiling guest: invalid magic number; expected a WebAssembly binary".to_owned()
            }
        })?;
        check_exports(&module)?;
        let mut linker = Linker::new(&engine);
        let linked = host::link(&mut linker).and_then(|()| wasi::link(&mut linker, &module));
        linked.map_err(|error| format!("wasm: error instantiating host: {error}"))?;
        Ok(Self { engine, module, linker, config: config.into(), strict_sandbox, log })
    }
}

fn check_exports(module: &Module) -> Result<(), String> {
    let request = FuncType::new([], [ValType::I64]);
    let response = FuncType::new([ValType::I32, ValType::I32], []);
    for (name, expected, text) in
        [("handle_request", request, "() -> (i64)"), ("handle_response", response, "(i32, i32) -> ()")]
    {
        match module.get_export(name) {
            Some(ExternType::Func(found)) if found == expected => {}
            Some(ExternType::Func(_)) => {
                return Err(format!("wasm: guest exports the wrong signature for func[{name}]. should be {text}"));
            }
            _ => return Err(format!("wasm: guest doesn't export func[{name}]")),
        }
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ => Err("wasm: guest doesn't export memory[memory]".to_owned()),
    }
}
