//! The controller's task on core 0: one request at a time becomes records, the records are
//! appended to the metadata log, every core acts on them, and only then the request is answered.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::metadata_log::{MetadataLog, MetadataLogError};
use crate::controller::{self, Context, Decision, Unwritten, shutdown_records};
use crate::mesh::shard::ReplyTo;
use crate::mesh::{Answer, Ask, ControlAnswer, ControlAsk, Shard};
use crate::metadata::{Image, Record};

/// How often the metadata log is looked after when nothing is asked.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);

/// The metadata as of the last request, and where it is kept.
struct Controller {
    shard: Rc<Shard>,
    metadata: MetadataLog,
    image: Arc<Image>,
}

/// Runs the controller for as long as the process lives.
pub(super) fn spawn(shard: &Rc<Shard>, metadata: MetadataLog, image: Arc<Image>) {
    let controller = Controller { shard: shard.clone(), metadata, image };
    shard.runtime.spawn("controller", controller.run());
}

impl Controller {
    async fn run(mut self) {
        loop {
            let wanted = self.shard.control_notice.notified();
            let asked: VecDeque<(ReplyTo, ControlAsk)> =
                std::mem::take(&mut *self.shard.control.borrow_mut());
            if asked.is_empty() {
                // Snapshots are due by age too.
                self.shard.runtime.timeout(MAINTENANCE_INTERVAL, wanted).await;
                self.maintain().await;
                continue;
            }
            for (to, ask) in asked {
                let answer = self.handle(ask).await;
                self.shard.reply(to, Answer::Control(answer));
            }
        }
    }

    async fn handle(&mut self, ask: ControlAsk) -> ControlAnswer {
        match ask {
            ControlAsk::CreateTopics(request, version) => {
                let decision = self.decide(|ctx| controller::create_topics(ctx, request, version));
                ControlAnswer::CreateTopics(self.carry_out(decision).await)
            }
            ControlAsk::AutoCreate(names) => {
                let records = self.decide(|ctx| controller::auto_create(ctx, &names));
                self.append(records).await;
                ControlAnswer::AutoCreated
            }
            ControlAsk::DeleteTopics(request, version) => {
                let decision = self.decide(|ctx| controller::delete_topics(ctx, request, version));
                ControlAnswer::DeleteTopics(self.carry_out(decision).await)
            }
            ControlAsk::CreatePartitions(request) => {
                let decision = self.decide(|ctx| controller::create_partitions(ctx, request));
                ControlAnswer::CreatePartitions(self.carry_out(decision).await)
            }
            ControlAsk::AlterConfigs(request) => {
                let decision = self.decide(|ctx| controller::alter_configs(ctx, request));
                ControlAnswer::AlterConfigs(self.carry_out(decision).await)
            }
            ControlAsk::IncrementalAlterConfigs(request) => {
                let decision =
                    self.decide(|ctx| controller::incremental_alter_configs(ctx, request));
                ControlAnswer::IncrementalAlterConfigs(self.carry_out(decision).await)
            }
            ControlAsk::ElectLeaders(request) => {
                let decision = self.decide(|ctx| controller::elect_leaders(ctx, request));
                ControlAnswer::ElectLeaders(self.carry_out(decision).await)
            }
            ControlAsk::ListPartitionReassignments(request) => {
                let decision =
                    self.decide(|ctx| controller::list_partition_reassignments(ctx, request));
                ControlAnswer::ListPartitionReassignments(self.carry_out(decision).await)
            }
            ControlAsk::Resign => ControlAnswer::Resigned(self.resign().await),
            ControlAsk::AllocateProducerIds => {
                let (records, block) = self.decide(controller::allocate_producer_ids);
                ControlAnswer::ProducerIds(self.append(records).await.then_some(block))
            }
        }
    }

    fn decide<T>(&self, decide: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let runtime = self.shard.runtime.clone();
        let config = self.shard.config();
        let mut draw_id = || runtime.random_uuid();
        decide(&mut Context {
            image: &self.image,
            config: &config,
            node: config.node_id,
            directory: self.metadata.metadata_directory(),
            draw_id: &mut draw_id,
        })
    }

    /// Appends a decision's records and has every core act on them. When the metadata log refuses
    /// them the answer says so.
    async fn carry_out<R: Unwritten>(&mut self, decision: Decision<R>) -> R {
        let Decision { records, mut response } = decision;
        if !self.append(records).await {
            response.unwrite();
        }
        response
    }

    async fn maintain(&mut self) {
        if let Err(error) = self.metadata.maintain().await {
            tracing::error!(%error, "the metadata log could not be made smaller");
        }
    }

    /// Gives up the leaderships of this node, as a controlled shutdown does. The cores are not
    /// told: they are closed already.
    async fn resign(&mut self) -> Option<i64> {
        let node = self.shard.config().node_id;
        let epoch = self.image.broker(node)?.epoch;
        let records = shutdown_records(&self.image, node);
        match self.metadata.append(records).await {
            Ok(_) => Some(epoch),
            Err(error) => {
                tracing::error!(%error, "the metadata log can not be written");
                None
            }
        }
    }

    /// Whether the records are in the log. A disk without room refuses them, and so does the log
    /// what is too large for it: all goes on. After any other failure it is not known what is on
    /// disk, and the broker ends.
    async fn append(&mut self, records: Vec<Record>) -> bool {
        if records.is_empty() {
            return true;
        }
        let (image, delta) = match self.metadata.append(records).await {
            Ok(appended) => appended,
            // Nothing of it is on disk.
            Err(error @ (MetadataLogError::Full(_) | MetadataLogError::Append(_))) => {
                tracing::error!(%error, "a change of the cluster is refused");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "the metadata log can not be written, the broker ends");
                self.shard.runtime.end_process();
                return false;
            }
        };
        self.image = image.clone();
        let delta = Arc::new(delta);
        // A core that is not told would go on with what was before.
        let ask = || Ask::Apply { image: image.clone(), delta: delta.clone() };
        for applied in self.shard.ask_all(ask).await {
            applied.await;
        }
        true
    }
}
