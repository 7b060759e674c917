//! Serving: from the command line to the end, with the reloads between.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use pasque::config::{self, ServerConfig};
use pasque::health::Health;
use pasque_h3::{Reloader, Server};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::Failure;
use crate::arguments::ServeArguments;
use crate::control::{Control, Order};
use crate::sandbox::Sandbox;
use crate::signals::{Signal, Signals};
use crate::{logging, notify, privileges};

/// Serves until a signal says otherwise.
pub(crate) fn serve(arguments: ServeArguments) -> Result<(), Failure> {
    logging::start().map_err(Failure::Configuration)?;
    let source = ConfigSource {
        // The command line without one was refused.
        path: arguments.config.unwrap_or_default(),
        threads: arguments.threads,
        user: arguments.user,
    };
    let mut config = source.load()?;
    match privileges::close_inherited().map_err(Failure::runtime)? {
        0 => {}
        count => warn!(
            count,
            "closed descriptors that whoever started the server left open"
        ),
    }
    privileges::harden().map_err(Failure::runtime)?;
    // Before anything is opened and any thread is there: what a reload opens later, it opens the same.
    if let Some(user) = &config.user {
        privileges::become_user(user, privileges::needed(&config)).map_err(Failure::runtime)?;
        // A file that only root can read would fail each reload.
        config = source.load()?;
    }
    // Later its folder is one to be read only.
    let address = arguments.address;
    let listening = address.unwrap_or_else(|| config.listen_address());
    pasque_h3::make_identity(&config, listening)?;
    let sandbox = Sandbox::enter(&config).map_err(Failure::runtime)?;

    // The engine has threads of its own; this one only waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)?;
    let result = runtime.block_on(run(source, sandbox, config, address));
    // Whatever a plugin still does on a blocking thread must not hold the end up.
    runtime.shutdown_background();
    result
}

async fn run(
    source: ConfigSource,
    sandbox: Sandbox,
    config: ServerConfig,
    address: Option<SocketAddr>,
) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::runtime)?;
    let control = match &config.control {
        None => None,
        Some(path) => Some(Control::bind(path).map_err(|error| {
            Failure::Runtime(format!("control socket {}: {error}", path.display()))
        })?),
    };
    let fixed = Fixed {
        control: config.control.clone(),
        user: config.user.clone(),
        sandbox: config.sandbox.clone(),
    };
    let server = Server::bind(config, address).await?;
    let status = format!("listening on {}", server.local_addr());
    info!("{status}, {} endpoints", server.endpoints());
    notify::ready(&status);

    let (stop, stopped) = oneshot::channel();
    let mut operator = Operator {
        source,
        sandbox,
        fixed,
        control,
        reloader: server.reloader(),
        status,
    };
    let attend = async {
        let signal = operator.attend(&mut signals).await;
        info!("{signal}: ending what is under way");
        notify::stopping();
        let _ = stop.send(());
        loop {
            match signals.next().await {
                Signal::Reload => info!("SIGHUP: not reloaded, because the server ends"),
                Signal::Stop(name) => return name,
            }
        }
    };
    let shutdown = async {
        let _ = stopped.await;
    };
    let pulse = beat(server.health());
    tokio::select! {
        result = server.run(shutdown) => result.map_err(Failure::runtime),
        signal = attend => Err(Failure::Runtime(format!("second {signal}: ended at once"))),
        never = pulse => match never {},
    }
}

/// Where the configuration comes from, at the start and at each reload.
struct ConfigSource {
    path: PathBuf,
    threads: Option<NonZeroUsize>,
    user: Option<String>,
}

impl ConfigSource {
    /// The configuration as the file has it now. What the command line says goes before it.
    fn load(&self) -> Result<ServerConfig, pasque::config::ConfigError> {
        let mut config = ServerConfig::load(&self.path)?;
        config.threads = self.threads.or(config.threads);
        config.user = self.user.clone().or(config.user);
        Ok(config)
    }
}

/// Keys of the program, which only a restart changes.
struct Fixed {
    control: Option<PathBuf>,
    user: Option<String>,
    sandbox: config::Sandbox,
}

/// Does what signals and the control socket ask for.
struct Operator {
    source: ConfigSource,
    sandbox: Sandbox,
    fixed: Fixed,
    control: Option<Control>,
    reloader: Reloader,
    /// What the service manager shows.
    status: String,
}

impl Operator {
    /// Reloads as often as somebody asks for it. Returns the signal that ends the server.
    async fn attend(&mut self, signals: &mut Signals) -> &'static str {
        loop {
            let order = async {
                match &mut self.control {
                    Some(control) => control.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop(name) => return name,
                    Signal::Reload => self.reload(None).await,
                },
                order = order => self.reload(Some(order)).await,
            }
        }
    }

    async fn reload(&mut self, order: Option<Order>) {
        notify::reloading();
        let outcome = self.try_reload().await;
        notify::ready(&self.status);
        match &outcome {
            Ok(text) => info!("{text}"),
            Err(text) => error!("not reloaded, nothing has changed: {text}"),
        }
        if let Some(order) = order {
            order.answer(outcome);
        }
    }

    async fn try_reload(&self) -> Result<String, String> {
        let config = self.source.load().map_err(|error| error.to_string())?;
        let control = config.control != self.fixed.control;
        let user = config.user != self.fixed.user;
        let sandbox = config.sandbox != self.fixed.sandbox;
        // Told here, a path is told as the configuration has it, and not as one that cannot be opened.
        let confined = config.check_confined(|file| self.sandbox.allows(file));
        confined.map_err(|error| error.to_string())?;
        let reloaded = self.reloader.reload(config).await;
        let mut reloaded = reloaded.map_err(|error| error.to_string())?;
        let changed = [(control, "control"), (user, "user"), (sandbox, "sandbox")];
        let changed = changed.into_iter().filter(|(is_other, _)| *is_other);
        reloaded.needs_restart.extend(changed.map(|(_, key)| key));
        Ok(format!("{}: {reloaded}", self.source.path.display()))
    }
}

/// Tells the service manager that the server is alive, as long as every worker is.
async fn beat(health: Arc<Health>) -> Infallible {
    let Some(within) = notify::watchdog() else {
        return pending().await;
    };
    // Twice in that time, as `sd_watchdog_enabled(3)` recommends.
    let mut clock = tokio::time::interval(within / 2);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        match health.is_healthy() {
            true => notify::alive(),
            false => error!("a worker makes no progress"),
        }
    }
}
