"""From labelled texts to an adapter on the disk: recipe, fitting, measuring, writing, grids of recipes."""
