"""One model: its bundle, manifest, engines, and which embedded one suits a picture."""
