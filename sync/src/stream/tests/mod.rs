mod delta;
mod pair;
mod repair;
mod table;
