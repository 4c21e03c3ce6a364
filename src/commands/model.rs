//! `lockstep model`: the built-in networks, and any network's shapes before anything runs.

use lockstep_proto::recipe::catalogue;
use lockstep_worker::dataset::IMAGE;
use lockstep_worker::model::Model;

use crate::cli::{ModelArgs, ModelCommand};
use crate::exit::Result;
use crate::prepare;

pub fn run(args: &ModelArgs) -> Result {
    match &args.command {
        None => {
            for model in catalogue::MODELS {
                let plan = Model::new(&prepare::model_spec(model.name)?, IMAGE, 10)?;
                say!("{:<20} {:>10} parameters  {}", model.name, plan.schema().parameters(), plan.source());
            }
            say!("\nShow one's layers: lockstep model show NAME|FILE");
        }
        Some(ModelCommand::Show { model, classes }) => {
            say!("{}", Model::new(&prepare::model_spec(model)?, IMAGE, *classes)?.table().trim_end());
        }
    }
    Ok(())
}
