//! `nightjar acl test`: what a client may do by the configuration, without a running node.

use std::process::ExitCode;

use nightjar_broker::Kept;
use nightjar_broker::acl::AclSources;
use nightjar_broker::admin::AccessQuestion;
use nightjar_mqtt::QoS;

use super::ctl::Question;
use super::{ConfigArgs, exit};
use crate::config::{self, ConfigErrors, model::AclSource};
use crate::start;

/// Authorization by the configuration, without a running node.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say whether a client may do something, and which rule decides
    Test {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        question: Question,
    },
}

/// Runs the command: exit code 0 whatever the verdict is.
pub fn run(command: &Command, before: &ConfigArgs) -> ExitCode {
    let Command::Test { config, question } = command;
    let loaded = match config::load(&config.options(before)) {
        Ok(loaded) => loaded,
        Err(errors) => return exit::fail(exit::USAGE, errors),
    };
    let sources = match start::access::sources(&loaded, &Kept::default()) {
        Ok(sources) => sources,
        Err(problems) => return exit::fail(exit::USAGE, ConfigErrors(problems)),
    };
    let configured = &loaded.config.acl.sources;
    if configured
        .iter()
        .any(|source| matches!(source, AclSource::Builtin(it) if it.enable))
    {
        exit::warning(
            "builtin rules are known to the running node only: `nightjar ctl acl test` asks it",
        );
    }
    let acl = AclSources::new(start::acl_settings(&loaded.config), sources);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::fail(exit::FAILED, error),
    };
    let explanation = runtime.block_on(start::admin::explain(&acl, &question.access(), false));
    exit::print(&format!("{explanation}\n"))
}

impl Question {
    /// The question as sources are asked.
    fn access(&self) -> AccessQuestion {
        AccessQuestion {
            username: self.user.clone(),
            client_id: self.client.clone(),
            address: self.ip,
            listener: Some(self.listener.clone()),
            subscribe: self.is_subscribe(),
            topic: self.topic.clone(),
            qos: QoS::from_bits(self.qos).expect("clap takes 0 to 2 only"),
            retain: self.retain,
        }
    }
}
