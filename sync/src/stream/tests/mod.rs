mod delta;
mod pair;
mod random;
mod repair;
mod table;
