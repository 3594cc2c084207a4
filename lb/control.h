#pragma once
#include "lb/control/control.h"
