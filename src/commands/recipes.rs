//! `lockstep recipes`: what there is to train.

use lockstep_proto::recipe::catalogue;

use crate::cli::{RecipeArgs, RecipesArgs};
use crate::exit::Result;
use crate::prepare;

pub fn run(args: &RecipesArgs) -> Result {
    if let Some(name) = &args.show {
        let recipe = RecipeArgs { recipe: Some(name.clone()), set: args.set.clone(), ..RecipeArgs::default() };
        say!("{}", prepare::recipe(&recipe)?.to_toml().trim_end());
        return Ok(());
    }
    for recipe in catalogue::RECIPES {
        say!("{:<20} {}", recipe.name, recipe.description());
    }
    say!("\nShow one with every default: lockstep recipes NAME");
    Ok(())
}
